//! Settings: what `.env.example` says of them, and what the real binary does with them.

mod secrets;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use settings::keys::{DefaultValue, KEYS};

use crate::support::server::{Deployment, Finished};

const EXAMPLE: &str = include_str!("../../../.env.example");

/// Good enough to sign with.
const SECRET: &str = "mE0Wk8Qn1vTzr4YbXc7uJdL2gHs9aPfR5oKiN3tB6yM=";

/// Good enough to make refresh tokens with.
const REFRESH_KEY: &str = "Zt5cVb1mQ8wXe7yRu3iKo0pLa9sDf4gHj2kNq6lTzWY=";

/// What is told of a secret that production lacks.
const LACKS_SECRET: &str = "is not set, and production makes none";

/// What must not appear in any output, as a part of values that are refused.
const CANARY: &str = "xcanaryx";

/// A setting as `.env.example` has it: the line that sets it, and the words above.
struct Example {
    name: &'static str,
    value: &'static str,
    words: String,
}

fn examples() -> Vec<Example> {
    let mut words = Vec::new();
    let mut examples = Vec::new();
    for line in EXAMPLE.lines() {
        if let Some((name, value)) = line
            .strip_prefix('#')
            .filter(|line| line.starts_with("AUTH_"))
            .and_then(|line| line.split_once('='))
        {
            examples.push(Example { name, value, words: words.join(" ") });
        } else if let Some(text) = line.strip_prefix('#') {
            words.push(text.trim());
        } else {
            assert_eq!(line, "", "neither a comment nor commented out");
            words.clear();
        }
    }
    examples
}

fn check(deployment: &Deployment) -> Finished {
    deployment.run(&["config", "check"])
}

/// That it was refused, with one error that begins with the name and shows no value, and others only of secrets that
/// production lacks.
fn assert_refused(checked: &Finished, name: &str) {
    assert_eq!(checked.code, 2, "{checked:?}");
    let is_of_name = |line: &str| line.starts_with(&format!("error: {name} "));
    let counts =
        |line: &&str| line.starts_with("error: ") && (is_of_name(line) || !line.contains(LACKS_SECRET));
    let errors: Vec<&str> = checked.stderr.lines().filter(counts).collect();
    assert_eq!(errors.len(), 1, "{checked:?}");
    assert!(errors[0].starts_with(&format!("error: {name} ")), "{checked:?}");
    assert!(!format!("{checked:?}").contains(CANARY), "{checked:?}");
}

fn warnings(checked: &Finished) -> Vec<&str> {
    checked.stderr.lines().filter(|line| line.contains("WARN")).collect()
}

#[test]
fn the_example_has_every_key_in_order_with_its_default_and_nothing_else() {
    let written: Vec<_> = examples().iter().map(|example| (example.name, example.value)).collect();

    let known: Vec<_> = KEYS
        .iter()
        .map(|key| match key.default {
            DefaultValue::Text(text) => (key.name, text),
            DefaultValue::Depends(_) | DefaultValue::Unset => (key.name, ""),
        })
        .collect();

    assert_eq!(written, known);
}

#[test]
fn the_example_says_of_each_key_what_it_is_for_and_what_its_default_follows_from() {
    for (example, key) in examples().iter().zip(KEYS) {
        assert!(!example.words.is_empty(), "{}", example.name);
        if let DefaultValue::Depends(words) = key.default {
            assert!(
                example.words.contains(&format!("Default: {words}")),
                "{}: {}",
                example.name,
                example.words
            );
        }
    }
}

#[test]
fn the_defaults_of_the_example_are_those_in_force() {
    let set: Vec<_> = examples()
        .iter()
        .filter(|example| !example.value.is_empty())
        .map(|example| format!("{}={}", example.name, example.value))
        .collect();
    let with = Deployment::bare();
    with.write(".env", &set.join("\n"));

    let (without, with) = (check(&Deployment::bare()), check(&with));

    assert_eq!((without.code, with.code), (0, 0), "{without:?} {with:?}");
    assert_eq!(without.stdout, with.stdout);
}

#[test]
fn a_later_source_wins_over_an_earlier_one() {
    let deployment = Deployment::bare();
    let ttl = |deployment: &Deployment| {
        let shown = deployment.run(&["config", "show", "--json"]).json();
        let ttl =
            shown.as_array().unwrap().iter().find(|key| key["key"] == "AUTH_TOKEN__ACCESS_TTL").unwrap();
        (ttl["value"].as_str().unwrap().to_owned(), ttl["set_by"].as_str().unwrap().to_owned())
    };
    let pair = |value: &str, set_by: &str| (value.to_owned(), set_by.to_owned());

    assert_eq!(ttl(&deployment), pair("15m", "default"));
    deployment.write("auth-api.toml", "[token]\naccess_ttl = \"1m\"\n");
    assert_eq!(ttl(&deployment), pair("1m", "auth-api.toml"));
    deployment.write(".env", "AUTH_TOKEN__ACCESS_TTL=2m\n");
    assert_eq!(ttl(&deployment), pair("2m", ".env"));
    assert_eq!(ttl(&deployment.clone().set("AUTH_TOKEN__ACCESS_TTL", "3m")), pair("3m", "environment"));
}

#[test]
fn a_file_that_is_asked_for_is_read_instead_of_the_usual_one_and_must_exist() {
    let deployment = Deployment::bare();
    deployment.write("auth-api.toml", "nonsense = 1\n");
    deployment.write(
        "other.toml",
        "env = \"development\"\n[password]\nbcrypt_cost = 10\n[docs]\nenabled = false\n",
    );

    let read = deployment.run(&["--config", "other.toml", "config", "check"]);
    let missing = deployment.run(&["config", "check", "--config", "missing.toml"]);

    assert_eq!(read.code, 0, "{read:?}");
    assert!(read.stdout.contains("AUTH_PASSWORD__BCRYPT_COST=10\n"), "{read:?}");
    assert!(read.stdout.contains("AUTH_DOCS__ENABLED=false\n"), "{read:?}");
    assert_refused(&missing, "missing.toml");
}

#[test]
fn a_value_that_cannot_be_is_refused_by_the_name_of_its_key_and_never_shown() {
    for name in KEYS.iter().map(|key| key.name) {
        // Texts that are names, and not judged beyond their form; the rest cannot be a canary at all.
        let value = match name {
            "AUTH_CORS__HEADERS"
            | "AUTH_OPS__HOSTS"
            | "AUTH_TLS__CERT_PATH"
            | "AUTH_TLS__KEY_PATH"
            | "AUTH_TOKEN__AUDIENCE"
            | "AUTH_TOKEN__CLIENT_ID"
            | "AUTH_TOKEN__KEYS_DIR" => {
                format!("{CANARY}\u{1}")
            }
            _ => CANARY.to_owned(),
        };

        assert_refused(&check(&Deployment::bare().set(name, &value)), name);

        let in_file = Deployment::bare();
        let path = name["AUTH_".len()..].to_lowercase().replace("__", ".");
        in_file.write("auth-api.toml", &format!("{path} = \"{}\"\n", value.replace('\u{1}', "\\u0001")));
        assert_refused(&check(&in_file), name);

        let in_dotenv = Deployment::bare();
        in_dotenv.write(".env", &format!("{name}='{value}'\n"));
        assert_refused(&check(&in_dotenv), name);
    }
}

#[test]
fn numbers_and_times_out_of_range_are_refused() {
    for (name, value) in [
        ("AUTH_PASSWORD__BCRYPT_COST", "9"),
        ("AUTH_PASSWORD__BCRYPT_COST", "17"),
        ("AUTH_PASSWORD__MIN_LENGTH", "7"),
        ("AUTH_HASHING__WORKERS", "0"),
        ("AUTH_HASHING__QUEUE", "0"),
        ("AUTH_HASHING__DEADLINE", "10s"),
        ("AUTH_TOKEN__ACCESS_TTL", "0s"),
        ("AUTH_SESSION__IDLE_TTL", "0s"),
        ("AUTH_SESSION__ABSOLUTE_TTL", "3651d"),
        ("AUTH_SESSION__GRACE", "61s"),
        ("AUTH_HTTP__IDLE_TIMEOUT", "0s"),
        ("AUTH_HTTP__CLIENT_IP_HEADER", "x-forwarded"),
        ("AUTH_HTTP__TRUSTED_PROXIES", "::ffff:0:0/96"),
        ("AUTH_LIMITS__IPV6_PREFIX", "31"),
        ("AUTH_OPS__HOSTS", "auth-api:9464"),
        ("AUTH_HTTP__GRACE", "2d"),
        ("AUTH_HTTP__GRACE", "20"),
        ("AUTH_HTTP__GRACE", "1500ms"),
    ] {
        assert_refused(&check(&Deployment::bare().set(name, value)), name);
    }
}

#[test]
fn a_wrong_type_in_a_file_is_refused() {
    for (name, text) in [
        ("AUTH_PASSWORD__BCRYPT_COST", "[password]\nbcrypt_cost = \"12\""),
        ("AUTH_DOCS__ENABLED", "[docs]\nenabled = \"true\""),
        ("AUTH_TOKEN__CLIENT_ID", "[token]\nclient_id = 12"),
        ("AUTH_TOKEN__SECRET", "[token]\nsecret = [\"xcanaryx\"]"),
        ("AUTH_HTTP__ADDR", "[http.addr]\nxcanaryx = 1"),
    ] {
        let deployment = Deployment::bare();
        deployment.write("auth-api.toml", text);

        let checked = check(&deployment);

        assert_eq!(checked.code, 2, "{checked:?}");
        assert!(
            checked.stderr.contains(name) || checked.stderr.contains("http.addr.xcanaryx"),
            "{checked:?}"
        );
    }
}

#[test]
fn an_unknown_key_is_refused_wherever_it_stands_and_the_likely_one_named() {
    let misspelt = check(&Deployment::bare().set("AUTH_HTTP__ADR", CANARY));
    assert_refused(&misspelt, "AUTH_HTTP__ADR");
    assert!(misspelt.stderr.contains("AUTH_HTTP__ADDR"), "{misspelt:?}");

    assert_refused(&check(&Deployment::bare().set("AUTH_NOTHING__LIKE_IT", CANARY)), "AUTH_NOTHING__LIKE_IT");
    assert_refused(&check(&Deployment::bare().set("AUTH_Http__Addr", CANARY)), "AUTH_Http__Addr");

    // Whoever takes one underscore for two would go without what they ask for.
    for name in ["AUTH_SIGNUP_ENABLED", "auth_signup__enabled", "AUTHSIGNUPENABLED"] {
        let slip = check(&Deployment::bare().set(name, CANARY));
        assert_refused(&slip, name);
        assert!(slip.stderr.contains("AUTH_SIGNUP__ENABLED"), "{slip:?}");
    }

    // Into this file nobody writes but its owner.
    for name in ["AUTH_TOKEN__SECERT", "AUTH_PORT", "AUTH_SIGNUP_ENABLED"] {
        let in_dotenv = Deployment::bare();
        in_dotenv.write(".env", &format!("{name}={CANARY}\n"));
        assert_refused(&check(&in_dotenv), name);
    }

    for (file, name) in [
        ("[http]\nadr = \"xcanaryx\"\n", "http.adr"),
        ("[htpp]\n", "htpp"),
        ("http = \"xcanaryx\"\n", "http"),
        ("addr = \"xcanaryx\"\n", "addr"),
    ] {
        let in_file = Deployment::bare();
        in_file.write("auth-api.toml", file);
        assert_refused(&check(&in_file), &format!("{name} in auth-api.toml"));
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let wrong =
        Deployment::bare().set("AUTH_HTTP__GRACE", "x").set("AUTH_LOG__LEVEL", "x").set("AUTH_X__Y", "x");

    let checked = check(&wrong);

    let named: BTreeSet<_> = checked.stderr.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(named, BTreeSet::from(["AUTH_HTTP__GRACE", "AUTH_LOG__LEVEL", "AUTH_X__Y"]));
}

#[test]
fn what_is_no_setting_at_all_gives_one_warning() {
    let deployment = Deployment::bare()
        .set("AUTH_PORT", "tcp://10.0.0.1:80")
        .set("AUTH_SERVICE_HOST", CANARY)
        .set("AUTHOR", "somebody");

    let checked = check(&deployment);

    assert_eq!(checked.code, 0, "{checked:?}");
    let warnings = warnings(&checked);
    assert_eq!(warnings.len(), 1, "{checked:?}");
    assert!(warnings[0].contains("AUTH_PORT, AUTH_SERVICE_HOST"), "{checked:?}");
    assert!(!checked.stderr.contains("AUTHOR") && !checked.stderr.contains(CANARY), "{checked:?}");
}

#[test]
fn whoever_serves_people_without_naming_an_https_url_is_warned() {
    let secret = |letter: char| {
        let key = (0..16_u8).map(|n| format!("{:02x}", n.wrapping_mul(167) ^ letter as u8));
        key.collect::<String>()
    };
    let production = Deployment::bare()
        .set("AUTH_ENV", "production")
        .set("AUTH_TOKEN__SECRET", secret('a'))
        .set("AUTH_SESSION__REFRESH_KEY", secret('b'));

    let checked = check(&production.clone());
    assert_eq!((checked.code, warnings(&checked).len()), (0, 1), "{checked:?}");
    assert!(checked.stderr.contains("AUTH_TOKEN__ISSUER"), "{checked:?}");
    let named = check(&production.set("AUTH_TOKEN__ISSUER", "https://auth.example"));
    assert_eq!(warnings(&named), [""; 0]);
}

#[test]
fn a_file_that_cannot_be_parsed_is_refused_without_quoting_it() {
    let file = Deployment::bare();
    file.write("auth-api.toml", "[token]\nsecret = xcanaryx\n");
    let checked = check(&file);
    assert_refused(&checked, "auth-api.toml");
    assert!(checked.stderr.contains("line 2"), "{checked:?}");

    let dotenv = Deployment::bare();
    dotenv.write(".env", "AUTH_LOG__LEVEL=info\nAUTH_TOKEN__SECRET='xcanaryx unclosed\n");
    let checked = check(&dotenv);
    assert_refused(&checked, ".env");
    assert!(checked.stderr.contains("AUTH_LOG__LEVEL"), "{checked:?}");
}

#[test]
fn limits_cannot_be_switched_off_in_production() {
    let unlimited = Deployment::bare().set("AUTH_LIMITS__ENABLED", "false");

    assert_eq!(check(&unlimited).code, 0);
    assert_refused(&check(&unlimited.set("AUTH_ENV", "production")), "AUTH_LIMITS__ENABLED");
}

#[test]
fn plain_http_on_the_network_needs_a_proxy_before_it() {
    for environment in ["development", "production"] {
        for address in ["0.0.0.0:8000", "[::]:8000", "192.0.2.7:8000", "[::ffff:192.0.2.7]:8000"] {
            let deployment = Deployment::bare()
                .set("AUTH_ENV", environment)
                .set("AUTH_TOKEN__SECRET", SECRET)
                .set("AUTH_SESSION__REFRESH_KEY", REFRESH_KEY)
                .set("AUTH_HTTP__ADDR", address);

            let refused = check(&deployment);
            assert_refused(&refused, "AUTH_HTTP__ADDR");
            assert!(refused.stderr.contains("AUTH_HTTP__BEHIND_TLS_PROXY=true"), "{refused:?}");
            assert_eq!(check(&deployment.set("AUTH_HTTP__BEHIND_TLS_PROXY", "true")).code, 0);
        }
    }
    for address in ["127.0.0.1:8000", "127.9.9.9:8000", "[::1]:8000"] {
        assert_eq!(check(&Deployment::bare().set("AUTH_HTTP__ADDR", address)).code, 0, "{address}");
    }
}

#[test]
fn operators_and_the_public_have_a_port_each() {
    for (public, ops) in [("127.0.0.1:8000", "127.0.0.1:8000"), ("127.0.0.1:9464", "[::1]:9464")] {
        let shared = Deployment::bare().set("AUTH_HTTP__ADDR", public).set("AUTH_OPS__ADDR", ops);

        let checked = check(&shared);

        assert_refused(&checked, "AUTH_OPS__ADDR");
        assert!(checked.stderr.contains("AUTH_HTTP__ADDR"), "{checked:?}");
    }
    for ops in ["", "0.0.0.0:9464", "127.0.0.1:0"] {
        let deployment = Deployment::bare().set("AUTH_HTTP__ADDR", "127.0.0.1:0").set("AUTH_OPS__ADDR", ops);
        assert_eq!(check(&deployment).code, 0, "{ops}");
    }
}

#[test]
fn the_key_of_a_dsn_is_shown_to_nobody() {
    let set = Deployment::bare().set("AUTH_SENTRY__DSN", "https://xcanaryx@sentry.example/7");
    let named = Deployment::bare().set("AUTH_SENTRY__DSN_FILE", "dsn");
    named.write("dsn", "https://xcanaryx@sentry.example/7\n");

    for deployment in [set, named] {
        let checked = check(&deployment);

        assert_eq!(checked.code, 0, "{checked:?}");
        assert!(checked.stdout.contains("\nAUTH_SENTRY__DSN=(redacted)\n"), "{checked:?}");
        assert!(!format!("{checked:?}").contains(CANARY), "{checked:?}");
    }
    for dsn in ["https://sentry.example/7", "https://xcanaryx@sentry.example", "xcanaryx"] {
        assert_refused(&check(&Deployment::bare().set("AUTH_SENTRY__DSN", dsn)), "AUTH_SENTRY__DSN");
    }
}

#[test]
fn the_url_of_a_database_is_a_secret_and_the_path_of_a_file_is_none() {
    let named = Deployment::bare().set("AUTH_DATABASE__URL_FILE", "url");
    named.write("url", "postgresql://ann:xcanaryx@db/auth\n");
    let set = Deployment::bare().set("AUTH_DATABASE__URL", "postgres://ann:xcanaryx@db/auth?sslmode=require");
    for deployment in [named, set] {
        for arguments in [&["config", "check"][..], &["config", "show"], &["config", "show", "--json"]] {
            let told = deployment.run(arguments);
            assert_eq!(told.code, 0, "{told:?}");
            assert!(!format!("{told:?}").contains(CANARY), "{told:?}");
        }
        let checked = check(&deployment);
        assert!(checked.stdout.contains("\nAUTH_DATABASE__URL=(redacted)\n"), "{checked:?}");
        assert!(checked.stdout.contains("\nAUTH_DATABASE__MIGRATE_ON_START=false\n"), "{checked:?}");
    }

    let checked = check(&Deployment::bare());
    assert!(checked.stdout.contains("\nAUTH_DATABASE__URL=sqlite://data/auth.db\n"), "{checked:?}");
    assert!(checked.stdout.contains("\nAUTH_DATABASE__MIGRATE_ON_START=true\n"), "{checked:?}");
}

#[test]
fn a_database_that_cannot_be_is_refused_without_showing_its_password() {
    for (url, told) in [
        ("postgres://ann:xcanaryx@db/auth?sslmod=require", "`sslmod`"),
        ("postgres://ann:xcanaryx@db/auth?xcanaryx", "must be as in"),
        ("postgres://ann:xcanaryx@db/auth?sslmode=verify-full", "sslrootcert"),
        ("postgres://db:xcanaryx/auth", "port"),
        ("mysql://ann:xcanaryx@db/auth", "sqlite://"),
    ] {
        let checked = check(&Deployment::bare().set("AUTH_DATABASE__URL", url));

        assert_refused(&checked, "AUTH_DATABASE__URL");
        assert!(checked.stderr.contains(told), "{checked:?}");
    }
}

#[test]
fn a_file_with_the_url_of_a_database_that_others_can_read_gives_a_warning() {
    let deployment = Deployment::bare();
    for (url, count) in [("postgres://ann:xcanaryx@db/auth", 1), ("sqlite://data/auth.db", 0)] {
        let path = deployment.write(".env", &format!("AUTH_DATABASE__URL={url}\n"));
        fs::set_permissions(path, Permissions::from_mode(0o640)).unwrap();

        assert_eq!(warnings(&check(&deployment)).len(), count, "{url}");
    }
}

#[test]
fn only_a_jwt_can_be_without_an_audience() {
    let empty = Deployment::bare().set("AUTH_TOKEN__AUDIENCE", "");

    assert_refused(&check(&empty), "AUTH_TOKEN__AUDIENCE");
    assert_eq!(check(&empty.set("AUTH_TOKEN__TYPE", "JWT")).code, 0);
}

#[test]
fn production_differs_in_its_log_and_in_its_secrets_and_in_nothing_else() {
    let development =
        Deployment::bare().set("AUTH_TOKEN__SECRET", SECRET).set("AUTH_SESSION__REFRESH_KEY", REFRESH_KEY);
    let production = development.clone().set("AUTH_ENV", "production");

    let lines = |deployment: &Deployment| -> BTreeSet<String> {
        check(deployment).stdout.lines().map(str::to_owned).collect()
    };

    let (development, production) = (lines(&development), lines(&production));
    let differing: Vec<_> = production.difference(&development).collect();
    assert_eq!(differing, ["AUTH_ENV=production", "AUTH_LOG__FORMAT=json"]);
}
