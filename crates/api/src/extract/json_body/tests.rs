use actix_web::http::header::HeaderValue;

use super::*;

#[derive(Deserialize, Validate)]
#[garde(context(PasswordPolicy))]
struct Request {
    #[serde(default)]
    #[garde(dive)]
    username: Field<Username>,
    #[serde(default)]
    #[garde(dive)]
    password: Field<ChosenPassword>,
}

impl Fields for Request {}

fn parse(json: &[u8]) -> Result<Request, Problem> {
    let (request, mut errors) = super::parse(json, PasswordPolicy::new(8).unwrap())?;
    errors.sort_by(|one, other| one.field().cmp(other.field()));
    if errors.is_empty() { Ok(request) } else { Err(Problem::validation(errors)) }
}

fn refusal(json: &[u8]) -> (Code, serde_json::Value) {
    let Err(problem) = parse(json) else { panic!("{json:?} is accepted") };
    (problem.code(), serde_json::to_value(problem.errors()).unwrap())
}

fn field_codes(json: &str) -> Vec<(String, String)> {
    let (code, errors) = refusal(json.as_bytes());
    assert_eq!(code, Code::ValidationFailed, "{json}");
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    errors.as_array().unwrap().iter().map(|error| (text(&error["field"]), text(&error["code"]))).collect()
}

#[test]
fn a_valid_request_is_parsed_to_domain_types() {
    let request = parse(br#"{"username":"Ann","password":"caf\u00e9 au lait"}"#).ok().unwrap();

    assert_eq!(request.username.into_parsed().ok().unwrap().as_typed(), "Ann");
    assert_eq!(request.password.into_parsed().ok().unwrap().0.expose(), "café au lait");
}

#[test]
fn whatever_is_not_one_well_formed_object_is_malformed() {
    let deep = format!("{{\"username\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    for json in [
        &b""[..],
        b"{",
        b"null",
        b"[]",
        b"7",
        b"\"text\"",
        b"{}{}",
        b"{} x",
        b"{'a':1}",
        b"{\"a\":NaN}",
        b"{\"a\":1,}",
        b"\xef\xbb\xbf{}",
        b"{\"username\":\"\xff\"}",
        b"{\"x\":\"\xff\"}",
        br#"{"username":"\ud800"}"#,
        br#"{"x":["\udc00"]}"#,
        br#"{"\ud800":1}"#,
        br#"{"username":"a","username":"b"}"#,
        br#"{"x":1,"x":1}"#,
        br#"{"x":{"y":1,"y":2}}"#,
        br#"{"x":[{"y":1,"y":2}]}"#,
        br#"{"user\u006eame":"a","username":"b"}"#,
        b"{\"a\":\"\n\"}",
        deep.as_bytes(),
    ] {
        assert_eq!(refusal(json).0, Code::MalformedRequest, "{}", String::from_utf8_lossy(json));
    }
}

#[test]
fn object_with_more_than_64_members_is_malformed() {
    let object = |count: usize| {
        let members: Vec<String> = (0..count).map(|number| format!("\"n{number}\":1")).collect();
        format!("{{{}}}", members.join(","))
    };
    let within = |member: &str| format!("{{\"x\":{member}}}");

    for json in [object(64), within(&object(64)), within(&format!("[{0},{0}]", object(64)))] {
        assert_eq!(refusal(json.as_bytes()).0, Code::ValidationFailed, "{json}");
    }
    for json in [object(65), within(&object(65)), within(&format!("[[{}]]", object(65)))] {
        assert_eq!(refusal(json.as_bytes()).0, Code::MalformedRequest, "{json}");
    }
}

#[test]
fn every_wrong_field_is_named_at_once() {
    let pair = |field: &str, code: &str| (field.to_owned(), code.to_owned());

    assert_eq!(field_codes("{}"), [pair("password", "required"), pair("username", "required")]);
    let json = r#"{"username":"a!c","password":null,"admin":true}"#;
    let expected = [
        pair("admin", "unknown_field"),
        pair("password", "wrong_type"),
        pair("username", "invalid_characters"),
    ];
    assert_eq!(field_codes(json), expected);
    for wrong in ["1", "-1", "1.5", "true", "null", "[]", "[\"ann\"]", "{}"] {
        let json = format!(r#"{{"username":{wrong},"password":"long enough"}}"#);
        assert_eq!(field_codes(&json), [pair("username", "wrong_type")]);
    }
}

#[test]
fn every_rule_that_a_field_breaks_is_named_at_once() {
    let pair = |field: &str, code: &str| (field.to_owned(), code.to_owned());

    let expected = [
        pair("password", "too_short"),
        pair("password", "invalid_characters"),
        pair("username", "too_short"),
        pair("username", "invalid_characters"),
    ];
    assert_eq!(field_codes(r#"{"username":"a!","password":"a\u0000"}"#), expected);
    let long = format!(r#"{{"username":"ann","password":"{}\u0000"}}"#, "x".repeat(300));
    assert_eq!(field_codes(&long), [pair("password", "too_long"), pair("password", "invalid_characters")]);
}

#[test]
fn the_name_of_an_unknown_field_is_repeated_only_if_it_is_a_plain_identifier() {
    let named = |name: &str| {
        let json = serde_json::json!({ "username": "ann", "password": "x", name: 1 });
        field_codes(&json.to_string())[0].0.clone()
    };

    assert_eq!(named("is_admin"), "is_admin");
    for name in ["", "is-admin", "<script>", "a b", "ä", "1st", "constructor\n", &"x".repeat(65)] {
        assert_eq!(named(name), "", "{name:?}");
    }
}

#[test]
fn only_json_in_utf8_is_json() {
    let json = |value: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_str(value).unwrap());
        is_json(&headers)
    };

    for value in [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=\"UTF-8\"",
        "application/json;",
    ] {
        assert!(json(value), "{value}");
    }
    for value in [
        "",
        "text/plain",
        "application/jsonx",
        "application/json; charset=latin1",
        "application/ld+json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/json",
        "application/json; charset=\"utf-8",
        "application/json, text/plain",
        "application/json; boundary=x",
        "*/*",
    ] {
        assert!(!json(value), "{value}");
    }
    let mut twice = HeaderMap::new();
    twice.append(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    twice.append(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    assert!(!is_json(&twice));
    assert!(!is_json(&HeaderMap::new()));
}
