//! Blanks, line ends and invisible characters around a value.

use super::*;

#[test]
fn invisible_edge_of_a_secret_is_refused_from_every_source() {
    let around = EDGES.into_iter().flat_map(|edge| [format!("{edge}{SECRET}"), format!("{SECRET}{edge}")]);
    let quoted = QUOTES.map(|(opening, closing)| format!("{opening}{SECRET}{closing}"));
    for text in around.chain(quoted) {
        let environment = Deployment::bare().set("AUTH_TOKEN__SECRET", &text);
        assert_refused(&check(&environment), "AUTH_TOKEN__SECRET", &text);

        let toml_file = Deployment::bare();
        toml_file.write("auth-api.toml", &format!("[token]\nsecret = {}\n", toml(&text)));
        assert_refused(&check(&toml_file), "AUTH_TOKEN__SECRET", &text);

        let named = Deployment::bare().set("AUTH_TOKEN__SECRET_FILE", "secret");
        named.write("secret", &format!("{text}\n"));
        assert_refused(&check(&named), "AUTH_TOKEN__SECRET", &text);

        let dotenv = Deployment::bare();
        let text = if text.contains('\'') { format!("\"{text}\"") } else { format!("'{text}'") };
        if !text.contains("\"\"") {
            dotenv.write(".env", &format!("AUTH_TOKEN__SECRET={text}\n"));
            assert_refused(&check(&dotenv), "AUTH_TOKEN__SECRET", &text);
        }
    }
}

#[test]
fn invisible_edge_of_any_secret_setting_is_refused() {
    for name in SECRETS {
        for text in
            [format!("\u{feff}{REFRESH_KEY}\r\n"), format!("'{REFRESH_KEY}'"), format!("{REFRESH_KEY} ")]
        {
            assert_refused(&check(&Deployment::bare().set(name, &text)), name, &text);

            let named = Deployment::bare().set(&format!("{name}_FILE"), "secret");
            named.write("secret", &text);
            assert_refused(&check(&named), name, &text);
        }
    }
    for (name, text) in [
        ("AUTH_DATABASE__URL", "postgres://ann:hum@db/auth"),
        ("AUTH_DATABASE__URL", "sqlite://data/auth.db"),
        ("AUTH_SENTRY__DSN", "https://abc@sentry.example/7"),
        ("AUTH_TOKEN__AUDIENCE", "shop"),
        ("AUTH_TOKEN__CLIENT_ID", "shop"),
        ("AUTH_TOKEN__KEYS_DIR", "keys"),
        ("AUTH_TLS__CERT_PATH", "cert.pem"),
        ("AUTH_TOKEN__SECRET_FILE", "secret"),
    ] {
        for edge in ["\u{feff}", " ", "\n"] {
            let checked = check(&Deployment::bare().set(name, format!("{text}{edge}")));
            assert!(
                checked.code == 2 && checked.stderr.contains(&format!("error: {name} ")),
                "{name}: {checked:?}"
            );
        }
        let checked = check(&Deployment::bare().set(name, format!("\"{text}\"")));
        assert!(
            checked.code == 2 && checked.stderr.contains(&format!("error: {name} ")),
            "{name}: {checked:?}"
        );
    }
}

#[test]
fn secret_kept_for_development_that_is_open_gives_one_warning() {
    let deployment = Deployment::new();
    fs::create_dir(deployment.folder().join("data")).unwrap();
    let kept = deployment.write("data/token-secret", &format!("{SECRET}\n"));
    fs::set_permissions(kept, fs::Permissions::from_mode(0o644)).unwrap();
    let warnings = |text: &str| text.matches("data/token-secret holds a secret and is open").count();

    assert_eq!(warnings(&check(&deployment).stderr), 1);
    assert_eq!(warnings(&deployment.serve().log().lines().concat()), 1);
}

#[test]
fn database_url_file_of_an_option_has_no_invisible_edge() {
    for url in ["\u{feff}sqlite://b.db\n", "sqlite://b.db\n\n", "'sqlite://b.db'", "sqlite://b.db "] {
        let deployment = Deployment::bare();
        deployment.write("url", url);

        let refused = deployment.run(&["database", "copy", "--from", "sqlite://a.db", "--to-file", "url"]);

        assert_eq!(refused.code, 2, "{url:?}: {refused:?}");
        assert!(errors(&refused)[0].starts_with("--to-file names a file whose URL "), "{refused:?}");
    }
}

#[test]
fn one_line_end_of_a_secret_file_is_no_part_of_it() {
    for end in ["", "\n", "\r\n"] {
        let named = Deployment::bare().set("AUTH_TOKEN__SECRET_FILE", "secret");
        named.write("secret", &format!("{SECRET}{end}"));

        assert_eq!(check(&named).code, 0, "{end:?}");
    }
}

#[test]
fn secret_kept_for_development_has_no_invisible_edge() {
    let deployment = Deployment::bare();
    fs::create_dir(deployment.folder().join("data")).unwrap();
    deployment.write("data/token-secret", &format!("\u{feff}{SECRET}\n"));

    let checked = check(&deployment);

    assert!(checked.code == 2 && checked.stderr.contains("byte order mark"), "{checked:?}");
}

#[test]
fn password_with_an_invisible_edge_is_refused_on_stdin() {
    let deployment = Deployment::new();
    assert_eq!(deployment.run_with(&["users", "create", "ben"], "seven brown otters sing\n").code, 0);
    for (name, arguments) in [("ann", ["users", "create", "ann"]), ("ben", ["users", "set-password", "ben"])]
    {
        for text in [
            "\u{feff}seven brown otters sing",
            "seven brown otters sing\n\n",
            "\nseven brown otters sing",
            "seven brown otters sing\r\n\r\n",
            "seven brown otters sing\r",
            "seven brown otters sing\u{200b}\n",
        ] {
            let refused = deployment.run_with(&arguments, text);
            assert_eq!(refused.code, 3, "{name} {text:?}: {refused:?}");
            assert!(
                refused.stderr.contains("begins with") || refused.stderr.contains("ends with"),
                "{refused:?}"
            );
        }
    }
}

#[test]
fn password_with_blanks_or_quotes_around_it_gives_a_warning() {
    let deployment = Deployment::new().set("AUTH_LOG__FORMAT", "pretty");
    for (name, text) in [("ann", "seven brown otters sing "), ("ben", "'seven brown otters sing'\n")] {
        let created = deployment.run_with(&["users", "create", name], text);

        assert_eq!(created.code, 0, "{created:?}");
        assert!(created.stderr.contains("WARN") && created.stderr.contains("the password"), "{created:?}");
    }
    let created = deployment.run_with(&["users", "create", "cid"], "seven brown otters sing\n");
    assert!(created.code == 0 && !created.stderr.contains("WARN"), "{created:?}");
}
