//! What a value of a setting may be, wherever it stands: its ends, references in it, and nothing at all.

mod edges;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use settings::keys::{DefaultValue, KEYS, Shape};

use crate::support::server::{Deployment, Finished};

/// Good enough to sign with.
const SECRET: &str = "mE0Wk8Qn1vTzr4YbXc7uJdL2gHs9aPfR5oKiN3tB6yM=";

/// Good enough to make refresh tokens with.
const REFRESH_KEY: &str = "Zt5cVb1mQ8wXe7yRu3iKo0pLa9sDf4gHj2kNq6lTzWY=";

/// What nobody sees at the end of a text.
const EDGES: [&str; 10] =
    ["\u{feff}", "\n", "\r\n", " ", "\t", "\u{a0}", "\u{200b}", "\u{2060}", "\u{3000}", "\u{ad}"];

const QUOTES: [(&str, &str); 5] =
    [("'", "'"), ("\"", "\""), ("`", "`"), ("\u{201c}", "\u{201d}"), ("\u{2018}", "\u{2019}")];

const SECRETS: [&str; 4] = [
    "AUTH_TOKEN__SECRET",
    "AUTH_SESSION__REFRESH_KEY",
    "AUTH_SESSION__REFRESH_KEY_PREVIOUS",
    "AUTH_AUDIT__KEY",
];

fn check(deployment: &Deployment) -> Finished {
    deployment.run(&["config", "check"])
}

fn errors(finished: &Finished) -> Vec<&str> {
    finished.stderr.lines().filter_map(|line| line.strip_prefix("error: ")).collect()
}

/// That this setting was refused, and none else, and that what it was is not told.
fn assert_refused(finished: &Finished, name: &str, what: &str) {
    assert_eq!(finished.code, 2, "{what:?}: {finished:?}");
    let errors = errors(finished);
    assert!(errors.len() == 1 && errors[0].starts_with(&format!("{name} ")), "{what:?}: {finished:?}");
    assert!(!finished.stderr.contains(&SECRET[..12]), "{finished:?}");
}

/// What is in force for a setting.
fn value(deployment: &Deployment, name: &str) -> serde_json::Value {
    let shown = deployment.run(&["config", "show", "--json"]).json();
    shown.as_array().unwrap().iter().find(|key| key["key"] == name).unwrap()["value"].clone()
}

/// As TOML writes a text.
fn toml(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_ascii_graphic() || c == ' ' => c.to_string(),
        c => format!("\\U{:08x}", u32::from(c)),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

fn path(name: &str) -> String {
    name["AUTH_".len()..].to_lowercase().replace("__", ".")
}

#[test]
fn reference_to_nothing_in_dotenv_stops_the_start() {
    let with = |value: &str| format!("AUTH_TOKEN__SECRET={value}\n");
    for value in [
        "mE0Wk8Qn1vTzr4YbXc7uJdL2gHs9aPfR5oKiN3tB6yM$dR2mQ9",
        "mE0Wk8Qn1vTzr4YbXc7uJdL2gHs9aPfR5oKiN3tB6yM${dR2mQ9}",
        "\"mE0Wk8Qn1vTzr4YbXc7uJdL2gHs9aPfR5oKiN3tB6yM$dR2mQ9\"",
        "\"mE0Wk8Qn1vTzr4YbXc7uJdL2gHs9aPfR5oKiN3tB6yM ${dR2mQ9} x\"",
        "mE0Wk8Qn1vTzr4YbXc7uJdL2gHs9aPfR5oKiN3tB6yM$",
        "mE0Wk8Qn1vTzr4YbXc7uJdL2gHs9aPfR5oKiN3tB6yM$$x",
        "mE0Wk8Qn1vTzr4YbXc7uJdL2gHs9aPfR5oKiN3tB6yM$2b$12",
        "$AUTH_NOWHERE",
    ] {
        let deployment = Deployment::bare();
        deployment.write(".env", &with(value));

        let checked = check(&deployment);

        assert_refused(&checked, "AUTH_TOKEN__SECRET in .env", value);
        assert!(checked.stderr.contains("single quotes"), "{checked:?}");
        assert_eq!(deployment.run(&["serve"]).code, 2);
    }
}

#[test]
fn literal_dollar_and_known_reference_in_dotenv_are_taken() {
    for (value, is) in [
        ("'shop$dR2mQ9'", "shop$dR2mQ9"),
        ("shop\\$dR2mQ9", "shop$dR2mQ9"),
        ("\"shop\\$dR2mQ9\"", "shop$dR2mQ9"),
        ("shop$AUTH_TOKEN__CLIENT_ID", "shopone"),
        ("\"shop ${AUTH_TOKEN__CLIENT_ID}\"", "shop one"),
        ("${OUTSIDE}", "outside"),
    ] {
        let deployment = Deployment::bare().set("OUTSIDE", "outside");
        deployment.write(
            ".env",
            &format!("AUTH_TOKEN__CLIENT_ID=one\nOTHERS=$nothing\nAUTH_TOKEN__AUDIENCE={value}\n"),
        );

        assert_eq!(value_of_audience(&deployment), is, "{value}");
    }
}

fn value_of_audience(deployment: &Deployment) -> String {
    value(deployment, "AUTH_TOKEN__AUDIENCE").as_str().unwrap().to_owned()
}

#[test]
fn setting_twice_in_dotenv_gives_a_warning() {
    let deployment = Deployment::bare();
    deployment.write(".env", "AUTH_TOKEN__AUDIENCE=one\nAUTH_TOKEN__AUDIENCE=two\n");

    let checked = check(&deployment);

    assert_eq!(checked.code, 0, "{checked:?}");
    assert!(checked.stderr.contains("AUTH_TOKEN__AUDIENCE is set twice in .env"), "{checked:?}");
}

#[test]
fn empty_setting_means_its_default_from_every_source() {
    let default = check(&Deployment::bare());
    for key in KEYS.iter().filter(|key| !key.takes_empty) {
        let environment = check(&Deployment::bare().set(key.name, ""));
        assert_eq!(
            (environment.code, &environment.stdout),
            (0, &default.stdout),
            "{}: {environment:?}",
            key.name
        );

        for value in ["", "''", "\"\""] {
            let dotenv = Deployment::bare();
            dotenv.write(".env", &format!("{}={value}\n", key.name));
            let dotenv = check(&dotenv);
            assert_eq!((dotenv.code, &dotenv.stdout), (0, &default.stdout), "{}: {dotenv:?}", key.name);
        }
        if key.shape == Shape::Text {
            let file = Deployment::bare();
            file.write("auth-api.toml", &format!("{} = \"\"\n", path(key.name)));
            let file = check(&file);
            assert_eq!((file.code, &file.stdout), (0, &default.stdout), "{}: {file:?}", key.name);
        }
    }
}

#[test]
fn empty_setting_leaves_what_another_source_says() {
    let deployment = Deployment::bare()
        .set("AUTH_TOKEN__CLIENT_ID", "")
        .set("AUTH_TOKEN__SECRET", "")
        .set("AUTH_TOKEN__SECRET_FILE", "secret")
        .set("AUTH_TOKEN__AUDIENCE", "")
        .set("AUTH_TOKEN__TYPE", "JWT");
    deployment.write("auth-api.toml", "[token]\nclient_id = \"shop\"\naudience = \"shop\"\n");
    deployment.write("secret", SECRET);

    assert_eq!(check(&deployment).code, 0);
    assert_eq!(value(&deployment, "AUTH_TOKEN__CLIENT_ID"), "shop");
    // An empty audience is a value.
    assert_eq!(value(&deployment, "AUTH_TOKEN__AUDIENCE"), "");
}

#[test]
fn empty_secret_file_stops_the_start() {
    for name in
        SECRETS.into_iter().chain(["AUTH_DATABASE__URL", "AUTH_TOKEN__PRIVATE_KEY", "AUTH_SENTRY__DSN"])
    {
        for text in ["", "\n"] {
            let deployment = Deployment::bare().set(&format!("{name}_FILE"), "secret");
            deployment.write("secret", text);

            assert_refused(&check(&deployment), name, text);
        }
    }
}

#[test]
fn every_line_of_the_example_is_valid_without_its_sign() {
    let example = include_str!("../../../.env.example");
    let default = check(&Deployment::bare());
    let lines: Vec<&str> = example
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| line.starts_with("AUTH_"))
        .collect();
    assert_eq!(lines.len(), KEYS.len());
    for line in &lines {
        let deployment = Deployment::bare();
        // An at+jwt has an audience; the text above the line says so.
        let value = if *line == "AUTH_TOKEN__AUDIENCE=" { "AUTH_TOKEN__TYPE=JWT\n" } else { "" };
        deployment.write(".env", &format!("{value}{line}\n"));

        let checked = check(&deployment);

        assert_eq!((checked.code, &checked.stdout), (0, &default.stdout), "{line}: {checked:?}");
    }
    let all = Deployment::bare();
    all.write(".env", &lines.join("\n"));
    let checked = check(&all);
    assert_eq!((checked.code, checked.stdout), (0, default.stdout), "{}", checked.stderr);
}

#[test]
fn example_says_where_an_empty_value_counts() {
    let example = include_str!("../../../.env.example");
    for key in KEYS {
        let (before, _) = example.split_once(&format!("\n#{}=", key.name)).unwrap();
        let words = before.rsplit("\n\n").next().unwrap();
        assert_eq!(words.contains("Empty "), key.takes_empty, "{}: {words}", key.name);
    }
}

#[test]
fn doubled_key_of_a_file_is_named_with_its_line() {
    let deployment = Deployment::bare();
    deployment
        .write("auth-api.toml", "[token]\nissuer = \"https://a.example\"\nissuer = \"https://b.example\"\n");

    let checked = check(&deployment);

    assert_refused(&checked, "auth-api.toml", "");
    assert!(
        checked.stderr.contains("token.issuer twice") && checked.stderr.contains("line 3"),
        "{checked:?}"
    );
    assert!(!checked.stderr.contains("example"), "{checked:?}");
}

#[test]
fn check_says_that_the_configuration_is_valid() {
    let checked = check(&Deployment::bare());

    assert_eq!(checked.code, 0, "{checked:?}");
    assert_eq!(checked.stdout.lines().last(), Some("configuration is valid"));
}

#[test]
fn all_that_is_missing_or_invalid_is_told_at_once() {
    let deployment = Deployment::bare()
        .set("AUTH_ENV", "production")
        .set("AUTH_LOG__LEVEL", "loud")
        .set("AUTH_TLS__CERT_PATH", "cert.pem")
        .set("AUTH_TLS__KEY_PATH", "key.pem")
        .set("AUTH_TOKEN__ALGORITHM", "EdDSA");
    for command in [&["config", "check"][..], &["serve"]] {
        let refused = deployment.run(command);

        assert_eq!(refused.code, 2, "{refused:?}");
        let errors = errors(&refused);
        for told in [
            "AUTH_LOG__LEVEL ",
            "AUTH_SESSION__REFRESH_KEY ",
            "cert.pem, which AUTH_TLS__CERT_PATH names,",
            "key.pem, which AUTH_TLS__KEY_PATH names,",
            "AUTH_TOKEN__KEYS_DIR ",
        ] {
            assert_eq!(
                errors.iter().filter(|error| error.starts_with(told)).count(),
                1,
                "{told}: {refused:?}"
            );
        }
        assert_eq!(errors.len(), 5, "{refused:?}");
        assert!(!deployment.folder().join("data").exists());
    }
}

#[test]
fn every_fault_of_the_secrets_is_told_at_once() {
    let deployment = Deployment::bare()
        .set("AUTH_TOKEN__SECRET", SECRET)
        .set("AUTH_SESSION__REFRESH_KEY", SECRET)
        .set("AUTH_AUDIT__KEY", SECRET);

    let refused = check(&deployment);

    assert_eq!(errors(&refused).len(), 2, "{refused:?}");
}

#[test]
fn first_log_line_names_environment_database_and_version() {
    let server = Deployment::new().serve();

    let lines = server.log().lines();
    let first: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();

    assert_eq!(first["message"], "starting", "{first}");
    assert_eq!(first["environment"], "development");
    assert_eq!(first["database"], "sqlite://data/auth.db");
    assert_eq!(first["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn first_log_line_names_a_database_without_credentials() {
    let deployment = Deployment::new()
        .set("AUTH_DATABASE__URL", "postgres://ann:hum@127.0.0.1:1/auth?connect_timeout=1")
        .set("AUTH_HTTP__TRUSTED_PROXIES", "")
        .set("AUTH_UNKNOWN", "gives a warning");

    let refused = deployment.run(&["serve"]);

    let first: serde_json::Value = serde_json::from_str(refused.stderr.lines().next().unwrap()).unwrap();
    assert_eq!(first["database"], "postgres://127.0.0.1:1/auth", "{refused:?}");
    assert!(!refused.stderr.contains("ann:") && !refused.stderr.contains("hum"), "{refused:?}");
}

#[test]
fn default_ops_port_is_9464_wherever_it_is_named() {
    let key = KEYS.iter().find(|key| key.name == "AUTH_OPS__ADDR").unwrap();
    assert_eq!(key.default, DefaultValue::Text("127.0.0.1:9464"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (file, text) in [
        ("docker/Dockerfile", "AUTH_OPS__ADDR=0.0.0.0:9464"),
        ("docker/prometheus/prometheus.yml", "api:9464"),
        ("README.md", "127.0.0.1:9464"),
        (".env.example", "0.0.0.0:9464"),
    ] {
        let file_text = fs::read_to_string(root.join(file)).unwrap();
        assert!(file_text.contains(text) && !file_text.contains(":9090"), "{file}");
    }
}

#[test]
fn password_of_several_lines_is_refused_on_stdin() {
    let deployment = Deployment::bare();
    for text in ["seven brown otters sing\nseven brown otters sing\n", "seven brown\r\notters sing"] {
        let refused = deployment.run_with(&["users", "create", "ann"], text);

        assert_eq!(refused.code, 3, "{refused:?}");
        assert!(refused.stderr.contains("several lines"), "{refused:?}");
    }
}

#[test]
fn stray_characters_in_the_path_of_a_secret_file_are_named() {
    for (stray, told) in
        [("\n", "ends with a line end"), (" ", "ends with a blank"), ("\u{feff}", "byte order mark")]
    {
        let deployment = Deployment::bare().set("AUTH_TOKEN__SECRET_FILE", format!("secret{stray}"));
        deployment.write("secret", SECRET);

        let refused = check(&deployment);

        let [error] = &errors(&refused)[..] else { panic!("{refused:?}") };
        assert!(error.starts_with("AUTH_TOKEN__SECRET_FILE ") && error.contains(told), "{error}");
    }
}

#[test]
fn secret_file_of_several_lines_is_refused() {
    let deployment = Deployment::bare().set("AUTH_TOKEN__SECRET_FILE", "secret");
    deployment.write("secret", &format!("{SECRET}\n{SECRET}\n"));

    let refused = check(&deployment);

    let [error] = &errors(&refused)[..] else { panic!("{refused:?}") };
    assert!(error.starts_with("AUTH_TOKEN__SECRET ") && error.contains("several lines"), "{error}");
    assert!(!format!("{refused:?}").contains(SECRET));
}

#[test]
fn empty_value_of_a_file_means_the_default_for_every_type() {
    let deployment = Deployment::new();
    deployment.write("auth-api.toml", "[hashing]\nworkers = \"\"\n[docs]\nenabled = \"\"\n");

    let checked = deployment.run(&["config", "check"]);

    assert_eq!(checked.code, 0, "{checked:?}");
}

#[test]
fn file_of_settings_in_utf_16_is_named_with_the_command_that_converts_it() {
    for name in [".env", "auth-api.toml"] {
        let deployment = Deployment::new();
        let text = "\u{feff}AUTH_LOG__LEVEL=info\n".encode_utf16().flat_map(u16::to_le_bytes);
        std::fs::write(deployment.folder().join(name), text.collect::<Vec<u8>>()).unwrap();

        let refused = deployment.run(&["config", "check"]);

        assert!(refused.code == 2 && refused.stderr.contains("iconv -f UTF-16"), "{refused:?}");
        assert!(refused.stderr.contains(name), "{refused:?}");
    }
}
