use super::*;

fn refusal(text: &str) -> String {
    Url::parse(text).unwrap_err().to_string()
}

fn certified(file: &str) -> Trust {
    Trust::Certified(Roots::File(file.into()))
}

#[test]
fn every_part_of_a_url_is_where_it_belongs() {
    let url = Url::parse(
        "postgresql://ann:hunter%202@db1,db2:5433/auth%5Fdb?application_name=x&options=-c%20a%3Db",
    )
    .unwrap();

    let [first, second] = &*url.servers else { panic!("{url:?}") };
    assert_eq!((first.shown.as_str(), second.shown.as_str()), ("db1:5432", "db2:5433"));
    for server in [first, second] {
        assert_eq!(server.config.get_user(), Some("ann"));
        assert_eq!(server.config.get_password(), Some(&b"hunter 2"[..]));
        assert_eq!(server.config.get_dbname(), Some("auth_db"));
        assert_eq!(server.config.get_application_name(), Some("x"));
        assert_eq!(server.config.get_options(), Some("-c a=b"));
        assert_eq!(server.config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
    }
}

#[test]
fn nothing_shows_the_user_or_the_password() {
    let url = Url::parse("postgres://ann:hunter2@db/auth?password=hunter3").unwrap();

    assert_eq!(url.to_string(), "postgres://db:5432/auth");
    assert_eq!(format!("{url:?}"), "Url(postgres://db:5432/auth)");
}

#[test]
fn a_password_with_an_unescaped_sign_is_not_taken_for_a_host() {
    for rest in ["se@cret@h/d", "se@cret/x@h:5432/d", "se@a,cret@h/d"] {
        let told = refusal(&format!("postgres://u:{rest}"));
        assert!(told.contains("%XX") && !told.contains("cret"), "{told}");
    }
    assert!(Url::parse("postgres://u:se%40cret@h/d").is_ok());
}

#[test]
fn an_unknown_option_is_named_unless_it_may_be_something_else() {
    for (url, told) in [
        ("postgres://h/d?sslmod=require", "not known, `sslmod`; known are application_name,"),
        ("postgres://h/d?hunter2=x", "not known; known are"),
        ("postgres://h/d?SSLMODE=x", "not known; known are"),
        ("postgres://h/d?gssencmode=prefer", "not known, `gssencmode`;"),
    ] {
        assert!(refusal(url).contains(told), "{url}: {}", refusal(url));
    }
}

#[test]
fn a_value_that_cannot_be_is_told_by_the_name_of_its_option() {
    for (url, told) in [
        ("postgres://h/d?sslmode=on", "value of sslmode that is not supported; write disable, prefer"),
        ("postgres://h/d?sslmode=allow", "value of sslmode that is not supported; write disable, prefer"),
        ("postgres://h/d?sslmode=", "value of sslmode that is not supported; write disable, prefer"),
        ("postgres://h/d?target_session_attrs=standby", "target_session_attrs that is not supported"),
        ("postgres://h/d?connect_timeout=soon", "connect_timeout that is not supported"),
        ("postgres://h:http/d", "value of port that cannot be read"),
        ("postgres://h/d?channel_binding=hunter2", "value of channel_binding that cannot be read"),
        ("postgres://h/d?sslmode=verify-full", "needs sslrootcert"),
        ("postgres://h/d?sslmode=verify-ca", "needs sslrootcert"),
        ("postgres://h/d?sslmode=require&sslrootcert=system", "verify-full only"),
        ("postgres://h1:1,h2:2,h3/d?port=1,2", "one port for all hosts"),
        ("postgres://", "names no host"),
        ("postgres:///d", "names no host"),
        ("postgres://h/d?sslmode", "must be as in"),
        ("mysql://h/d", "must be as in"),
    ] {
        assert!(refusal(url).contains(told), "{url}: {}", refusal(url));
        assert!(!refusal(url).contains("hunter2"));
    }
}

#[test]
fn sslmode_and_sslrootcert_mean_what_they_mean_to_libpq() {
    for (options, tls) in [
        ("", Tls::Preferred(Trust::Anybody)),
        ("?sslmode=disable", Tls::Disabled),
        ("?sslmode=disable&sslrootcert=ca.pem", Tls::Disabled),
        ("?sslmode=prefer", Tls::Preferred(Trust::Anybody)),
        ("?sslmode=prefer&sslrootcert=ca.pem", Tls::Preferred(certified("ca.pem"))),
        ("?sslmode=require", Tls::Required(Trust::Anybody)),
        ("?sslmode=require&sslrootcert=ca.pem", Tls::Required(certified("ca.pem"))),
        ("?sslmode=verify-ca&sslrootcert=ca.pem", Tls::Required(certified("ca.pem"))),
        (
            "?sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem",
            Tls::Required(Trust::CertifiedByName(Roots::File("/etc/ca.pem".into()))),
        ),
        ("?sslrootcert=system", Tls::Required(Trust::CertifiedByName(Roots::System))),
    ] {
        assert_eq!(Url::parse(&format!("postgres://h/d{options}")).unwrap().tls, tls, "{options}");
    }
}

#[test]
fn plaintext_is_possible_on_a_network_without_required_tls() {
    for (url, plaintext) in [
        ("postgres://db/d", Some(Plaintext::ByDefault)),
        ("postgres://db/d?sslrootcert=ca.pem", Some(Plaintext::ByDefault)),
        ("postgres://10.0.0.7/d", Some(Plaintext::ByDefault)),
        ("postgres://localhost,db/d", Some(Plaintext::ByDefault)),
        ("postgres://db.localhost/d", Some(Plaintext::ByDefault)),
        ("postgres:///d?host=/run/pg,db", Some(Plaintext::ByDefault)),
        ("postgres://localhost/d?host=db", Some(Plaintext::ByDefault)),
        ("postgres://db/d?sslmode=disable", Some(Plaintext::Chosen)),
        ("postgres://db/d?sslmode=prefer", Some(Plaintext::Chosen)),
        ("postgres://db/d?sslmode=%70refer", Some(Plaintext::Chosen)),
        ("postgres://db/d?sslmode=require", None),
        ("postgres://db/d?sslmode=verify-full&sslrootcert=ca.pem", None),
        ("postgres://db/d?sslrootcert=system", None),
        ("postgres://localhost/d", None),
        ("postgres://LOCALHOST/d", None),
        ("postgres://127.0.0.1,127.8.8.8/d", None),
        ("postgres://[::1]/d", None),
        ("postgres://[::ffff:127.0.0.1]/d", None),
        ("postgres:///d?host=/run/pg", None),
        ("postgres://%2Frun%2Fpg/d", None),
        ("postgres://localhost/d?sslmode=disable", None),
    ] {
        assert_eq!(Url::parse(url).unwrap().plaintext(), plaintext, "{url}");
    }
}

#[test]
fn a_socket_needs_no_tls() {
    let url = Url::parse("postgres:///d?host=/run/pg,db&sslmode=require").unwrap();

    let modes: Vec<SslMode> = url.servers.iter().map(|server| server.config.get_ssl_mode()).collect();
    assert_eq!(modes, [SslMode::Disable, SslMode::Require]);
    assert_eq!(url.to_string(), "postgres:///run/pg:5432,db:5432/d");
}

#[test]
fn all_servers_share_the_patience_unless_it_is_set() {
    let patience = |text| Url::parse(text).unwrap().servers[0].patience;

    assert_eq!(patience("postgres://h/d"), PATIENCE);
    assert_eq!(patience("postgres://h1,h2,h3/d"), PATIENCE / 3);
    assert_eq!(patience("postgres://h1,h2/d?connect_timeout=7"), Duration::from_secs(7));
}
