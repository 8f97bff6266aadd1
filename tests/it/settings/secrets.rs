//! Secrets, and the files that hold them.

use super::*;

#[test]
fn a_secret_that_is_short_regular_or_an_example_is_refused_in_any_environment() {
    for (environment, name) in [
        ("development", "AUTH_TOKEN__SECRET"),
        ("production", "AUTH_TOKEN__SECRET"),
        ("development", "AUTH_SESSION__REFRESH_KEY"),
        ("production", "AUTH_SESSION__REFRESH_KEY_PREVIOUS"),
    ] {
        for secret in [
            "mE0Wk8Qn1vTzr4YbXc7uJdL2gHs9aPf",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "k7Qz9xk7Qz9xk7Qz9xk7Qz9xk7Qz9xk7Qz9x",
            "change-me-k7Qz9xW3mVp1LrT8bN5cYd2",
            "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
            "correcthorsebatterystaplecorrecthorse",
            "GQDstcKsx0NHjPOuXOYg5MbeJ1XT0uFiwDVvVBrk",
        ] {
            let deployment = Deployment::bare().set("AUTH_ENV", environment).set(name, secret);

            assert_refused(&check(&deployment), name);
            assert_eq!(deployment.run(&["serve"]).code, 2);
        }
    }
}

#[test]
fn no_secret_printed_in_our_documentation_can_be_used() {
    for document in ["README.md", ".env.example", "Makefile"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(document);
        for line in fs::read_to_string(path).unwrap().lines() {
            let Some((_, secret)) = line.split_once("AUTH_TOKEN__SECRET=") else { continue };
            let secret = secret.split_whitespace().next().unwrap_or_default().trim_matches(['"', '\'', '`']);
            if secret.is_empty() {
                continue;
            }

            assert_refused(
                &check(&Deployment::bare().set("AUTH_TOKEN__SECRET", secret)),
                "AUTH_TOKEN__SECRET",
            );
        }
    }
}

#[test]
fn production_asks_for_a_secret_and_says_how_to_make_one() {
    let production = Deployment::bare().set("AUTH_ENV", "production");

    let checked = check(&production);

    for name in ["AUTH_TOKEN__SECRET", "AUTH_SESSION__REFRESH_KEY"] {
        assert_refused(&checked, name);
    }
    assert!(checked.stderr.contains("openssl rand -base64 48"), "{checked:?}");
    assert_eq!(production.run(&["serve"]).code, 2);
    assert!(!production.folder().join("data").exists(), "a refused start leaves nothing behind");

    let production = production.set("AUTH_TOKEN__SECRET", SECRET);
    assert_refused(&check(&production), "AUTH_SESSION__REFRESH_KEY");
    assert_eq!(check(&production.set("AUTH_SESSION__REFRESH_KEY", REFRESH_KEY)).code, 0);
}

#[test]
fn one_secret_for_two_purposes_is_refused() {
    for name in ["AUTH_SESSION__REFRESH_KEY", "AUTH_SESSION__REFRESH_KEY_PREVIOUS"] {
        let shared = Deployment::bare().set("AUTH_TOKEN__SECRET", SECRET).set(name, SECRET);

        assert_refused(&check(&shared), name);
        assert_eq!(shared.run(&["serve"]).code, 2);
    }
}

#[test]
fn a_secret_is_shown_by_no_command() {
    let deployment = Deployment::bare()
        .set("AUTH_TOKEN__SECRET", SECRET)
        .set("AUTH_SESSION__REFRESH_KEY", REFRESH_KEY)
        .set("AUTH_LOG__LEVEL", "trace");
    deployment.run(&["migrate", "up"]);

    for arguments in
        [&["config", "check"][..], &["config", "show"], &["config", "show", "--json"], &["users", "list"]]
    {
        let output = deployment.run(arguments);

        assert_eq!(output.code, 0, "{output:?}");
        let shown = format!("{output:?}");
        assert!(!shown.contains(&SECRET[..16]) && !shown.contains(&REFRESH_KEY[..16]), "{output:?}");
    }
    assert!(check(&deployment).stdout.contains("AUTH_TOKEN__SECRET=(redacted)\n"));
}

#[test]
fn a_secret_comes_from_a_file_without_the_line_end_after_it() {
    for end in ["", "\n", "\r\n"] {
        let deployment = Deployment::bare().set("AUTH_TOKEN__SECRET_FILE", "secret");
        let path = deployment.write("secret", &format!("{SECRET}{end}"));
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();

        let checked = check(&deployment);

        assert_eq!(checked.code, 0, "{checked:?}");
        assert_eq!(warnings(&checked), [""; 0]);
    }

    // Exactly one line end is taken away, and it does not count among the 32 bytes.
    let deployment = Deployment::bare().set("AUTH_TOKEN__SECRET_FILE", "secret");
    deployment.write("secret", &format!("{SECRET}\n\n"));
    assert_refused(&check(&deployment), "AUTH_TOKEN__SECRET");
    deployment.write("secret", &format!("{}\n", &SECRET[..31]));
    assert_refused(&check(&deployment), "AUTH_TOKEN__SECRET");
}

#[test]
fn a_database_url_comes_from_a_file_too() {
    let deployment = Deployment::bare().set("AUTH_DATABASE__URL_FILE", "url");
    deployment.write("url", "sqlite://elsewhere.db\n");

    assert!(check(&deployment).stdout.contains("AUTH_DATABASE__URL=sqlite://elsewhere.db\n"));
}

#[test]
fn a_value_and_a_file_for_it_cannot_both_be_set() {
    let both = Deployment::bare().set("AUTH_TOKEN__SECRET_FILE", "secret").set("AUTH_TOKEN__SECRET", SECRET);
    both.write("secret", SECRET);
    assert_refused(&check(&both), "AUTH_TOKEN__SECRET_FILE");

    let missing = Deployment::bare().set("AUTH_TOKEN__SECRET_FILE", format!("{CANARY}/missing"));
    assert_refused(&check(&missing), "AUTH_TOKEN__SECRET_FILE");
}

#[test]
fn a_file_with_a_secret_that_others_can_read_gives_one_warning_each() {
    let open = |path| fs::set_permissions(path, Permissions::from_mode(0o640)).unwrap();

    let named = Deployment::bare().set("AUTH_TOKEN__SECRET_FILE", "secret");
    open(named.write("secret", SECRET));
    let dotenv = Deployment::bare();
    open(dotenv.write(".env", &format!("AUTH_TOKEN__SECRET={SECRET}\n")));
    let file = Deployment::bare();
    open(file.write("auth-api.toml", &format!("[token]\nsecret = \"{SECRET}\"\n")));
    for deployment in [named, dotenv, file] {
        let checked = check(&deployment);
        assert_eq!(checked.code, 0, "{checked:?}");
        let warnings = warnings(&checked);
        assert_eq!(warnings.len(), 1, "{checked:?}");
        assert!(warnings[0].contains("chmod 600"), "{checked:?}");
    }

    let harmless = Deployment::bare();
    open(harmless.write(".env", "AUTH_LOG__LEVEL=info\n"));
    assert_eq!(warnings(&check(&harmless)), [""; 0]);
}

#[test]
fn backends_that_cannot_be_told_apart_or_have_no_secret_stop_the_start() {
    let digest = "bc0e5d5ea3512e3344b2fa5a77e33b5921ad03b1ea715836f314dc964ae992ca";
    for (value, says) in [
        (CANARY.to_owned(), "id:digest"),
        (format!("{CANARY}:"), "64 of the characters"),
        (format!("{CANARY}:{}", digest.to_uppercase()), "64 of the characters"),
        (format!("{CANARY} :{digest}"), "an id that"),
        (format!("shop:{digest},{CANARY}"), "id:digest"),
        (format!("{CANARY}:{digest},{CANARY}:{digest}"), "twice"),
        // The digests of nothing, of the word secret, and one that somebody typed.
        ("shop:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".to_owned(), "openssl rand"),
        ("shop:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b".to_owned(), "openssl rand"),
        (format!("shop:{}", "0123456789abcdef".repeat(4)), "openssl rand"),
    ] {
        let deployment = Deployment::bare().set("AUTH_INTROSPECTION__CLIENTS", &value);

        let checked = check(&deployment);

        assert_refused(&checked, "AUTH_INTROSPECTION__CLIENTS");
        assert!(checked.stderr.contains(says), "{checked:?}");
        let (_, digest) = value.split_once(':').unwrap_or_default();
        assert!(digest.is_empty() || !checked.stderr.contains(digest), "{checked:?}");
        assert_eq!(deployment.run(&["serve"]).code, 2);
    }
    for value in ["", &format!("shop:{digest}"), &format!(" shop:{digest} , stock-2.eu:{digest}")] {
        let checked = check(&Deployment::bare().set("AUTH_INTROSPECTION__CLIENTS", value));
        assert_eq!(checked.code, 0, "{checked:?}");
        assert!(!format!("{checked:?}").contains(digest), "{checked:?}");
    }
    let in_file = Deployment::bare();
    in_file.write("auth-api.toml", &format!("[introspection]\nclients = \"shop:{digest}\"\n"));
    assert_eq!(check(&in_file).code, 0);
}
