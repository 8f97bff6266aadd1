use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;

pub(crate) const NOW: i64 = 1_790_000_000;
const SECRET: &[u8] = b"a secret that only the tests know, long enough";

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// A clock to be set by hand.
pub(crate) struct HandClock(pub(crate) AtomicI64);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        at(self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

pub(crate) struct FixedEntropy;

impl Entropy for FixedEntropy {
    fn draw(&self) -> [u8; 16] {
        [7; 16]
    }
}

pub(crate) fn profile() -> Profile {
    Profile {
        issuer: "https://auth.example".to_owned(),
        audience: Some("shop".to_owned()),
        token_type: TokenType::AccessToken,
        client_id: "web".to_owned(),
        max_lifetime: Duration::from_mins(15),
    }
}

fn issuer_with(secret: &[u8], profile: Profile) -> JwtIssuer {
    let clock = Arc::new(HandClock(AtomicI64::new(NOW)));
    JwtIssuer::new(KeyRing::hs256(secret).unwrap(), profile, clock, Arc::new(FixedEntropy)).unwrap()
}

fn issuer() -> JwtIssuer {
    issuer_with(SECRET, profile())
}

pub(crate) fn grant() -> Grant {
    Grant {
        subject: UserId(42),
        username: Username::parse("Ann").unwrap(),
        session: SessionId::from_bytes([5; 16]),
        generation: Generation::new(3).unwrap(),
        issued_at: at(NOW),
        lifetime: Duration::from_mins(15),
    }
}

pub(crate) fn bearer() -> Bearer {
    Bearer { user: UserId(42), session: grant().session, generation: grant().generation }
}

fn issued() -> String {
    issuer().issue(&grant()).unwrap().text.to_string()
}

fn encode(json: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(json)
}

pub(crate) fn part(token: &str, index: usize) -> Value {
    let segment = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(segment).unwrap()).unwrap()
}

fn header() -> Value {
    part(&issued(), 0)
}

fn claims() -> Value {
    part(&issued(), 1)
}

/// A token of any two texts, signed with the right key and algorithm.
fn signed_text(header: &str, claims: &str) -> String {
    let message = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET).unwrap();
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn signed(header: &Value, claims: &Value) -> String {
    signed_text(&header.to_string(), &claims.to_string())
}

fn with(mut object: Value, member: &str, value: Value) -> Value {
    object[member] = value;
    object
}

fn without(mut object: Value, member: &str) -> Value {
    object.as_object_mut().unwrap().remove(member).unwrap();
    object
}

#[track_caller]
fn assert_refused(token: &str) {
    assert_eq!(issuer().verify(token), Err(InvalidToken::Invalid), "{token}");
    assert_eq!(issuer().inspect(token), Err(InvalidToken::Invalid), "{token}");
}

#[test]
fn a_token_has_exactly_this_header_and_these_claims() {
    let token = issuer().issue(&grant()).unwrap();

    let header = part(&token.text, 0);
    assert_eq!(header, json!({ "alg": "HS256", "typ": "at+jwt", "kid": header["kid"] }));
    assert_eq!(header["kid"].as_str().unwrap().len(), 11);
    let expected = json!({
        "iss": "https://auth.example", "sub": "42", "aud": "shop", "iat": NOW - 1, "exp": NOW + 899,
        "jti": "3.BwcHBwcHBwcHBwcHBwcHBw", "sid": "05050505-0505-0505-0505-050505050505", "client_id": "web", "preferred_username": "Ann",
    });
    assert_eq!(part(&token.text, 1), expected);
    assert_eq!(token.lifetime, Duration::from_mins(15));
}

#[test]
fn a_token_verifies_as_issued_and_when_put_together_by_hand() {
    assert_eq!(issuer().verify(&issued()), Ok(bearer()));
    // Or every refusal below would prove nothing.
    assert_eq!(issuer().verify(&signed(&header(), &claims())), Ok(bearer()));
}

#[test]
fn a_token_that_verifies_tells_all_that_it_says() {
    let inspected = issuer().inspect(&issued()).unwrap();

    let expected = AccessClaims {
        bearer: bearer(),
        id: "3.BwcHBwcHBwcHBwcHBwcHBw".to_owned(),
        issuer: "https://auth.example".to_owned(),
        audience: Some("shop".to_owned()),
        client_id: "web".to_owned(),
        issued_at: at(NOW - 1),
        expires_at: at(NOW + 899),
    };
    assert_eq!(inspected, expected);
}

#[test]
fn only_the_keys_own_algorithm_verifies() {
    let unsigned = |alg: &str| {
        format!(
            "{}.{}.",
            encode(with(header(), "alg", json!(alg)).to_string().as_bytes()),
            encode(claims().to_string().as_bytes())
        )
    };
    for alg in ["none", "None", "NONE", "nOnE", "", "HS256"] {
        assert_refused(&unsigned(alg));
        assert_refused(&format!("{}AA", unsigned(alg)));
    }
    for alg in ["none", "hs256", "HS384", "HS512", "RS256", "ES256", "EdDSA", "PS256", "dir", "A256GCM"] {
        assert_refused(&signed(&with(header(), "alg", json!(alg)), &claims()));
    }
    for (alg, name) in [(jsonwebtoken::Algorithm::HS384, "HS384"), (jsonwebtoken::Algorithm::HS512, "HS512")]
    {
        let message = format!(
            "{}.{}",
            encode(with(header(), "alg", json!(name)).to_string().as_bytes()),
            encode(claims().to_string().as_bytes())
        );
        let key = jsonwebtoken::EncodingKey::from_secret(SECRET).unwrap();
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, alg).unwrap();
        assert_refused(&format!("{message}.{signature}"));
    }
}

#[test]
fn another_secret_another_kid_and_every_flipped_byte_are_refused() {
    let foreign = issuer_with(b"another secret, of thirty-two bytes or more", profile());
    assert_refused(&foreign.issue(&grant()).unwrap().text);
    let ours = foreign.keys().sign("at+jwt", &claims(), at(NOW)).unwrap();
    assert_refused(&ours);
    for kid in [json!("unknown"), json!(""), json!(null), json!(7), json!(["a"])] {
        assert_refused(&signed(&with(header(), "kid", kid), &claims()));
    }

    let token = issued();
    for index in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
        assert_refused(&String::from_utf8(bytes).unwrap());
    }
}

#[test]
fn a_type_other_than_the_configured_one_is_refused() {
    for typ in [json!("JWT"), json!("rt+jwt"), json!("application/jwt"), json!(""), json!(null), json!(1)] {
        assert_refused(&signed(&with(header(), "typ", typ), &claims()));
    }
    for member in ["typ", "alg", "kid"] {
        assert_refused(&signed(&without(header(), member), &claims()));
    }
    for typ in ["AT+JWT", "application/at+jwt"] {
        assert_eq!(issuer().verify(&signed(&with(header(), "typ", json!(typ)), &claims())), Ok(bearer()));
    }
    let plain = issuer_with(SECRET, Profile { token_type: TokenType::Jwt, ..profile() });
    assert_eq!(plain.verify(&issued()), Err(InvalidToken::Invalid));
    assert_eq!(plain.verify(&plain.issue(&grant()).unwrap().text), Ok(bearer()));
}

#[test]
fn headers_that_must_be_understood_are_refused_and_pointers_to_keys_ignored() {
    for (member, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("crit", json!(null)),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("enc", json!("A256GCM")),
        ("zip", json!("DEF")),
    ] {
        assert_refused(&signed(&with(header(), member, value), &claims()));
    }
    for member in ["jku", "x5u", "jwk", "x5c"] {
        let token = signed(&with(header(), member, json!("https://attacker.example/key")), &claims());
        assert_eq!(issuer().verify(&token), Ok(bearer()));
    }
}

#[test]
fn whatever_is_not_three_canonical_segments_of_objects_is_refused() {
    let token = issued();
    let [head, body, tail] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    for text in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "....".to_owned(),
        format!("{head}.{body}"),
        format!("{head}.{body}."),
        format!("{head}..{tail}"),
        format!(".{body}.{tail}"),
        format!("{token}.{tail}"),
        format!("{token}.{tail}.{tail}"),
        format!("{token}="),
        format!("{head}=.{body}.{tail}"),
        format!(" {token}"),
        format!("{token}\n"),
        format!("{head}. {body}.{tail}"),
        format!("{head}.{body}.{tail}\0"),
        format!("{token}é"),
        format!("{head}.{body}.{}", tail.replace(['-', '_'], "+")) + "/",
        json!({ "payload": body, "protected": head, "signature": tail }).to_string(),
        "A".repeat(5000),
    ] {
        assert_refused(&text);
    }
    for json in ["[]", "null", "7", "{", "\"x\"", "{}", "{} {}"] {
        assert_refused(&signed_text(json, &claims().to_string()));
        assert_refused(&signed_text(&header().to_string(), json));
    }
    // The values alone, in the order of the members: serde would take them for the object.
    let values = json!(["HS256", "at+jwt", header()["kid"]]);
    assert_refused(&signed(&values, &claims()));
    let twice = header().to_string().replacen('{', "{\"alg\":\"none\",", 1);
    assert_refused(&signed_text(&twice, &claims().to_string()));
    let twice = claims().to_string().replacen('{', "{\"sub\":\"1\",", 1);
    assert_refused(&signed_text(&header().to_string(), &twice));
}

#[test]
fn stray_bits_in_the_last_character_are_refused() {
    let token = issued();
    let last = token.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // 32 bytes end in a character of four bits; its neighbours in the alphabet decode to the same bytes.
    let stray = alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap();

    assert_refused(&format!("{}{stray}", &token[..token.len() - 1]));
}

#[test]
fn every_claim_must_be_there_and_of_its_type() {
    let wrong =
        [json!(null), json!(true), json!([]), json!({}), json!(-1), json!(1.5), json!(1e300), json!("")];
    for claim in ["iss", "sub", "aud", "jti", "sid", "client_id", "preferred_username", "exp", "iat"] {
        assert_refused(&signed(&header(), &without(claims(), claim)));
        for value in &wrong {
            assert_refused(&signed(&header(), &with(claims(), claim, value.clone())));
        }
        let other_type =
            if claims()[claim].is_string() { json!(7) } else { json!(claims()[claim].to_string()) };
        assert_refused(&signed(&header(), &with(claims(), claim, other_type)));
        assert_refused(&signed(&header(), &with(claims(), claim, json!([claims()[claim]]))));
    }
    for sub in ["0", "-1", "042", "+42", " 42", "42.0", "ann"] {
        assert_refused(&signed(&header(), &with(claims(), "sub", json!(sub))));
    }
    for jti in ["3", "3.", ".x", "0.x", "-1.x", "03.x", "BwcHBwcHBwcHBwcHBwcHBw"] {
        assert_refused(&signed(&header(), &with(claims(), "jti", json!(jti))));
    }
    for sid in ["5", "05050505050505050505050505050505", "05050505-0505-0505-0505-05050505050Z"] {
        assert_refused(&signed(&header(), &with(claims(), "sid", json!(sid))));
    }
}

#[test]
fn tokens_of_another_deployment_are_refused_although_the_secret_is_shared() {
    for (claim, value) in [("iss", "https://auth.example/"), ("aud", "shop2"), ("client_id", "ios")] {
        assert_refused(&signed(&header(), &with(claims(), claim, json!(value))));
    }
}

#[test]
fn without_an_audience_the_claim_is_left_out_and_refused() {
    let open = issuer_with(SECRET, Profile { audience: None, token_type: TokenType::Jwt, ..profile() });
    let token = open.issue(&grant()).unwrap();

    assert_eq!(part(&token.text, 1).get("aud"), None);
    assert_eq!(open.verify(&token.text), Ok(bearer()));
    let header = with(header(), "typ", json!("JWT"));
    assert_eq!(open.verify(&signed(&header, &claims())), Err(InvalidToken::Invalid));
}

#[test]
fn a_token_holds_until_the_second_it_expires_and_not_before_it_was_issued() {
    let clock = Arc::new(HandClock(AtomicI64::new(NOW)));
    let issuer =
        JwtIssuer::new(KeyRing::hs256(SECRET).unwrap(), profile(), clock.clone(), Arc::new(FixedEntropy))
            .unwrap();
    let token = issued();
    let at = |seconds| {
        clock.0.store(seconds, Ordering::SeqCst);
        issuer.verify(&token)
    };

    assert_eq!(at(NOW + 898), Ok(bearer()));
    assert_eq!(at(NOW + 899), Err(InvalidToken::Expired));
    assert_eq!(at(NOW + 1_000_000), Err(InvalidToken::Expired));
    assert_eq!(at(NOW - 6), Ok(bearer()));
    assert_eq!(at(NOW - 7), Err(InvalidToken::Invalid));
    assert_eq!(at(0), Err(InvalidToken::Invalid));
}

#[test]
fn token_is_issued_a_second_ago_and_lives_as_long_as_told() {
    // A verifier that is a second behind and allows no leeway sees no time to come.
    for nanoseconds in [0, 1, 999_999_999] {
        let issued_at = Timestamp::new(NOW, nanoseconds).unwrap();
        let token = issuer().issue(&Grant { issued_at, ..grant() }).unwrap();

        let claims = part(&token.text, 1);
        assert_eq!(claims["iat"], NOW - 1, "{nanoseconds}");
        let lifetime = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
        assert_eq!(lifetime, i64::try_from(token.lifetime.as_secs()).unwrap());
    }
}

#[test]
fn times_that_contradict_each_other_or_the_profile_are_refused() {
    let times = |iat: i64, exp: i64| with(with(claims(), "iat", json!(iat)), "exp", json!(exp));
    for (iat, exp) in
        [(NOW, NOW + 901), (NOW, NOW - 1), (NOW + 10, NOW + 20), (i64::MIN, i64::MAX), (NOW, i64::MAX)]
    {
        assert_refused(&signed(&header(), &times(iat, exp)));
    }
    assert_refused(&signed(&header(), &with(claims(), "nbf", json!(NOW + 6))));
    assert_refused(&signed(&header(), &with(claims(), "nbf", json!(null))));
    assert_refused(&signed(&header(), &with(claims(), "nbf", json!("soon"))));
    assert_eq!(issuer().verify(&signed(&header(), &with(claims(), "nbf", json!(NOW)))), Ok(bearer()));
}
