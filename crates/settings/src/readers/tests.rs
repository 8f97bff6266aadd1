use super::*;

#[test]
fn a_duration_is_one_number_and_one_unit() {
    let read = |text| duration(text, Duration::ZERO, 100 * DAY);

    assert_eq!(read("10s"), Ok(10 * SECOND));
    assert_eq!(read("15m"), Ok(15 * 60 * SECOND));
    assert_eq!(read("12h"), Ok(12 * HOUR));
    assert_eq!(read("14d"), Ok(14 * DAY));
    assert_eq!(read("500ms"), Ok(SECOND / 2));
    for text in
        ["", "s", "10", "10 s", "-10s", "+10s", "1.5s", "1h30m", "10S", "10y", "99999999999999999999d", "٣s"]
    {
        assert_eq!(read(text), Err(()), "{text:?}");
    }
}

#[test]
fn no_time_is_a_grace_but_neither_a_deadline_nor_a_lifetime() {
    assert_eq!(grace("0s"), Ok(Duration::ZERO));
    assert_eq!(grace("2000ms"), Ok(2 * SECOND));
    assert!(grace("999ms").unwrap_err().contains("whole seconds"));
    assert!(hashing_deadline("0s").is_err());
    assert!(hashing_deadline("10s").is_err());
    assert!(access_ttl("0s").is_err());
    assert!(access_ttl("1s").is_err());
    assert!(access_ttl("2s").is_ok());
    assert!(access_ttl("1500ms").is_err());
}

#[test]
fn a_number_keeps_to_its_range() {
    assert_eq!(bcrypt_cost("10"), Ok(10));
    assert_eq!(bcrypt_cost("16"), Ok(16));
    for text in ["9", "17", "", "12.0", "twelve", "-12", "99999999999"] {
        assert!(bcrypt_cost(text).is_err(), "{text:?}");
    }
    assert!(password_policy("7").is_err());
    assert!(password_policy("8").is_ok());
    assert!(workers("0").is_err());
}

#[test]
fn a_database_is_a_file_on_sqlite() {
    assert_eq!(sqlite_path("sqlite://data/auth.db"), Ok(PathBuf::from("data/auth.db")));
    assert_eq!(sqlite_path("sqlite:///var/lib/auth.db"), Ok(PathBuf::from("/var/lib/auth.db")));
    for text in [
        "",
        "data/auth.db",
        "sqlite://",
        "sqlite://:memory:",
        "sqlite://a.db?mode=ro",
        "mysql://db",
        "sqlite:a",
    ] {
        assert!(location(text).is_err(), "{text:?}");
    }
}

#[test]
fn stray_characters_in_the_url_of_a_database_are_refused() {
    for url in ["sqlite://data/auth.db", "sqlite:///var/lib/auth.db", "postgres://ann:hunter2@db/auth"] {
        assert!(location(url).is_ok(), "{url}");
        for stray in ["\n", "\r\n", "\n\n", "\r", "\t", " ", "\u{a0}", "\u{3000}", "\u{2028}"] {
            assert!(location(&format!("{url}{stray}")).is_err(), "{url}{stray:?}");
            assert!(location(&format!("{stray}{url}")).is_err(), "{stray:?}{url}");
        }
        for stray in ["\u{feff}", "\u{200b}", "\u{200e}", "\u{2060}", "\u{202c}", "\u{ad}", "'", "\""] {
            assert!(location(&format!("{url}{stray}")).is_err(), "{url}{stray:?}");
            assert!(location(&format!("{stray}{url}")).is_err(), "{stray:?}{url}");
        }
        let (scheme, rest) = url.split_once("://").unwrap();
        for inner in ["\n", "\t", "\u{1b}", "\u{7f}", "\u{85}"] {
            assert!(location(&format!("{scheme}://{inner}{rest}")).is_err(), "{url} {inner:?}");
            assert!(location(&url.replace("auth", &format!("au{inner}th"))).is_err(), "{url} {inner:?}");
        }
    }
    assert!(location("sqlite:// data/auth.db").is_err());
    assert!(location("sqlite://\u{feff}data/auth.db").is_err());
    // Those within a path are its own.
    assert_eq!(sqlite_path("sqlite://my data/auth.db"), Ok(PathBuf::from("my data/auth.db")));
    for text in ["sqlite:data/auth.db", "sqlite:/data/auth.db", "sqlite3://a.db", "SQLITE://a.db", "sqlite"] {
        assert!(location(text).is_err(), "{text}");
    }
}

#[test]
fn the_scheme_tells_what_a_database_is_on() {
    assert!(matches!(location("sqlite://auth.db"), Ok(Location::Sqlite(_))));
    for text in ["postgres://ann:hunter2@db/auth", "postgresql://db1,db2/auth?sslmode=require"] {
        assert!(matches!(location(text), Ok(Location::Postgres(_))), "{text}");
    }
    assert!(location("postgres://ann:hunter2@db/auth?sslmod=x").unwrap_err().contains("`sslmod`"));
}

#[test]
fn idle_timeout_is_from_a_second_to_a_day() {
    assert_eq!(idle_timeout("75s"), Ok(75 * SECOND));
    assert_eq!(idle_timeout("10m"), Ok(600 * SECOND));
    assert_eq!((idle_timeout("1s"), idle_timeout("24h")), (Ok(SECOND), Ok(DAY)));
    for text in ["0s", "999ms", "25h", "75", ""] {
        assert!(idle_timeout(text).is_err(), "{text}");
    }
}

#[test]
fn host_names_are_plain_and_have_no_port() {
    assert_eq!(host_names(""), Ok(vec![]));
    assert_eq!(
        host_names("Auth-API, ops.example.com"),
        Ok(vec!["auth-api".into(), "ops.example.com".into()])
    );
    for text in ["*", "a:9464", "a,", "https://a", "a b", "[::1]", "\u{e4}.example", "a."] {
        assert!(host_names(text).is_err(), "{text}");
    }
}

#[test]
fn proxies_are_networks_and_never_everybody() {
    let read = |text| trusted_proxies(text).is_ok();

    for text in ["", "10.0.0.0/8", "192.0.2.7", "10.0.0.0/8, 2001:db8::/32,::1"] {
        assert!(read(text), "{text}");
    }
    for text in [
        "*",
        "0.0.0.0/0",
        "::/0",
        "0.0.0.0/1,128.0.0.0/1",
        "10.0.0.0/33",
        "10.0.0",
        "proxy.internal",
        "10.0.0.0/8,",
        ",",
    ] {
        assert!(!read(text), "{text}");
    }
}

#[test]
fn one_origin_that_is_none_spoils_the_list() {
    assert_eq!(origins("").unwrap().len(), 0);
    assert_eq!(origins("https://app.example, http://localhost:3000").unwrap().len(), 2);
    for text in ["https://app.example,", "https://app.example,*", "https://app.example/"] {
        assert!(origins(text).unwrap_err().contains("without a slash"), "{text}");
    }
}

#[test]
fn origin_of_an_app_is_taken_and_one_that_many_share_is_not() {
    for text in ["tauri://localhost", "capacitor://localhost", "chrome-extension://abcdefghijklmnop"] {
        assert_eq!(origins(text).unwrap().len(), 1, "{text}");
    }
    for text in ["null", "file://", "file:///", "https://app.example,null"] {
        assert!(origins(text).unwrap_err().contains("null and file://"), "{text}");
    }
}

#[test]
fn header_names_are_tokens() {
    assert_eq!(header_names("").unwrap().len(), 0);
    assert_eq!(header_names("X-Tenant, x-client-version").unwrap(), ["x-tenant", "x-client-version"]);
    for text in ["*", "x tenant", "x-tenant,", "x-tenant: 1", "x-t\u{e9}nant", "x-tenant;y"] {
        assert!(header_names(text).unwrap_err().contains("names of headers"), "{text}");
    }
}

#[test]
fn change_password_page_is_a_web_url_or_a_path() {
    assert_eq!(change_password_page(""), Ok(None));
    for text in ["https://app.example/password?x=1#y", "http://localhost:3000/password", "/account/password"]
    {
        assert_eq!(change_password_page(text), Ok(Some(text.to_owned())));
    }
    for text in [
        "//evil.example",
        "account/password",
        "app.example/password",
        "javascript:alert(1)",
        "ftp://app.example",
        "https://",
        "https://ann:hunter2@app.example",
        "/a b",
        "/a\n",
        "/\\evil.example",
        "https://b\u{fc}cher.example",
    ] {
        assert!(change_password_page(text).is_err(), "{text:?}");
    }
}

#[test]
fn an_algorithm_is_named_as_in_a_token() {
    assert_eq!(algorithm("HS256"), Ok(Algorithm::Hs256));
    assert_eq!(algorithm("EdDSA"), Ok(Algorithm::KeyPair(KeyPairAlgorithm::EdDsa)));
    assert_eq!(algorithm("ES256"), Ok(Algorithm::KeyPair(KeyPairAlgorithm::Es256)));
    assert_eq!(algorithm("RS256"), Ok(Algorithm::KeyPair(KeyPairAlgorithm::Rs256)));
    for text in ["", "none", "hs256", "HS512", "eddsa", "Ed25519", "PS256"] {
        assert!(algorithm(text).is_err(), "{text:?}");
    }
}

#[test]
fn a_folder_has_a_path() {
    assert_eq!(folder("/etc/auth-api/keys"), Ok(PathBuf::from("/etc/auth-api/keys")));
    assert!(folder("").is_err());
    for text in ["a\nb", "data/keys\n", "data/keys ", " data/keys", "data/keys\u{200b}"] {
        assert!(folder(text).is_err() && file(text).is_err(), "{text:?}");
    }
}

#[test]
fn an_issuer_is_a_url_that_paths_can_be_appended_to() {
    for text in
        ["http://localhost:8000", "https://auth.example.com", "https://example.com/auth", "http://[::1]:8000"]
    {
        assert_eq!(issuer(text).as_deref(), Ok(text));
    }
    for text in [
        "",
        "auth.example.com",
        "ftp://example.com",
        "http://",
        "https://example.com/",
        "https://example.com/auth/",
        "https://example.com?x=1",
        "https://example.com#x",
        "https://ann:hunter2@example.com",
        "https://exam ple.com",
        "https://example.com\n",
    ] {
        assert!(issuer(text).is_err(), "{text:?}");
    }
}

#[test]
fn a_collector_has_a_url_without_a_login() {
    for text in ["http://collector:4318", "https://otlp.example/base/", "http://[::1]:4318"] {
        assert_eq!(otlp_endpoint(text), Ok(text.to_owned()));
    }
    for text in [
        "",
        "collector:4318",
        "grpc://collector:4317",
        "http://",
        "http://a:b@c:4318",
        "http://c?x",
        "http://collector:4318/v1/traces",
        "http://collector:4318/v1/traces/",
    ] {
        assert!(otlp_endpoint(text).is_err(), "{text:?}");
    }
}

#[test]
fn what_every_token_carries_has_at_most_255_bytes() {
    let url = |length: usize| format!("https://{}", "a".repeat(length - "https://".len()));

    assert_eq!(issuer(&url(255)), Ok(url(255)));
    assert!(issuer(&url(256)).unwrap_err().contains("at most 255 bytes"));
    for read in [client_id, |text: &str| audience(text).map(Option::unwrap)] {
        assert!(read(&"a".repeat(255)).is_ok());
        assert!(read(&"a".repeat(256)).unwrap_err().contains("1 to 255 bytes"));
    }
}

#[test]
fn only_the_audience_may_be_empty() {
    assert_eq!(audience(""), Ok(None));
    assert_eq!(audience("auth-api"), Ok(Some("auth-api".to_owned())));
    assert!(client_id("").is_err());
    assert!(client_id("a\nb").is_err());
}
