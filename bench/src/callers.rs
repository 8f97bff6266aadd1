//! Who calls: what each of them sends, and what the right answer is.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::client::Answer;

/// The password that is everybody's.
pub(crate) const PASSWORD: &str = "seven brown otters sing";

/// A password that is nobody's, as long as everybody's.
pub(crate) const WRONG_PASSWORD: &str = "seven brown otters sink";

/// Asks the server over and over.
pub(crate) trait Caller: Send {
    /// What to send next.
    fn request(&mut self) -> &[u8];

    /// Whether this is an answer to it, or what is wrong with it.
    fn judge(&mut self, answer: &Answer<'_>) -> Result<Reply, String>;
}

/// Whoever goes on asking later is only lent.
impl<C: Caller> Caller for &mut C {
    fn request(&mut self) -> &[u8] {
        (**self).request()
    }

    fn judge(&mut self, answer: &Answer<'_>) -> Result<Reply, String> {
        (**self).judge(answer)
    }
}

/// A right answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// What was asked for.
    Done,
    /// 503, for the server has too much to do.
    Refused,
}

/// Logs in with the right password.
pub(crate) struct LogIn {
    name: String,
    request: Vec<u8>,
}

/// Signs up, under a new name each time.
pub(crate) struct SignUp {
    taken: Arc<AtomicUsize>,
    name: String,
    request: Vec<u8>,
}

/// Reads what does not change.
pub(crate) struct Me {
    request: Vec<u8>,
    expected: Vec<u8>,
}

/// Exchanges the refresh token of a session of its own, over and over.
pub(crate) struct Refresh {
    session: String,
    generation: u64,
    token: String,
    request: Vec<u8>,
}

impl LogIn {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), request: log_in(name, PASSWORD) }
    }
}

impl Caller for LogIn {
    fn request(&mut self) -> &[u8] {
        &self.request
    }

    fn judge(&mut self, answer: &Answer<'_>) -> Result<Reply, String> {
        match answer.status {
            200 => access_token(answer, &self.name).map(|_| Reply::Done),
            503 => refusal(answer),
            _ => Err(unexpected(answer)),
        }
    }
}

impl SignUp {
    /// `taken` counts the names that were used up, by whomever.
    pub(crate) fn new(taken: Arc<AtomicUsize>) -> Self {
        Self { taken, name: String::new(), request: Vec::new() }
    }
}

impl Caller for SignUp {
    fn request(&mut self) -> &[u8] {
        self.name = format!("newcomer{}", self.taken.fetch_add(1, Ordering::Relaxed));
        self.request = post("/api/signup", &json!({"username": self.name, "password": PASSWORD}));
        &self.request
    }

    fn judge(&mut self, answer: &Answer<'_>) -> Result<Reply, String> {
        match answer.status {
            201 if object(answer)?["username"] == *self.name => Ok(Reply::Done),
            503 => refusal(answer),
            _ => Err(unexpected(answer)),
        }
    }
}

impl Me {
    /// `expected` is the body that the first answer had, looked at by [`whoever`].
    pub(crate) fn new(token: &str, expected: &[u8]) -> Self {
        Self { request: me(token), expected: expected.to_owned() }
    }
}

impl Caller for Me {
    fn request(&mut self) -> &[u8] {
        &self.request
    }

    fn judge(&mut self, answer: &Answer<'_>) -> Result<Reply, String> {
        if answer.status == 200 && answer.body == self.expected {
            Ok(Reply::Done)
        } else {
            Err(unexpected(answer))
        }
    }
}

impl Refresh {
    /// Begins with the tokens of a login.
    pub(crate) fn of(login: &Answer<'_>) -> Result<Self, String> {
        let Issued { session, generation, token } = Issued::by(login)?;
        let request = refresh(&token);
        Ok(Self { session, generation, token, request })
    }
}

impl Caller for Refresh {
    fn request(&mut self) -> &[u8] {
        &self.request
    }

    fn judge(&mut self, answer: &Answer<'_>) -> Result<Reply, String> {
        let next = Issued::by(answer)?;
        // Nobody else has this token, so nobody was faster, and no answer got lost.
        let is_new = next.session == self.session
            && next.generation == self.generation + 1
            && next.token != self.token
            && answer.header("refresh-reuse").is_none();
        if !is_new {
            return Err(format!("after generation {}: {}", self.generation, unexpected(answer)));
        }
        self.request = refresh(&next.token);
        (self.generation, self.token) = (next.generation, next.token);
        Ok(Reply::Done)
    }
}

/// What a login or a refresh hands out.
struct Issued {
    session: String,
    generation: u64,
    token: String,
}

impl Issued {
    fn by(answer: &Answer<'_>) -> Result<Self, String> {
        let body = if answer.status == 200 { object(answer)? } else { return Err(unexpected(answer)) };
        let text = |member: &str| body[member].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let claims = text("access_token").as_deref().and_then(claims);
        // `jti` is the generation, a point and what nobody can guess.
        let generation = claims.as_ref().and_then(|claims| claims["jti"].as_str()?.split_once('.'));
        let generation = generation.and_then(|(generation, _)| generation.parse().ok());
        match (text("session_id"), generation, text("refresh_token")) {
            (Some(session), Some(generation), Some(token)) => Ok(Self { session, generation, token }),
            _ => Err(unexpected(answer)),
        }
    }
}

/// A login.
pub(crate) fn log_in(name: &str, password: &str) -> Vec<u8> {
    post("/api/login", &json!({"username": name, "password": password}))
}

/// An exchange of this refresh token.
fn refresh(token: &str) -> Vec<u8> {
    post("/api/refresh", &json!({"refresh_token": token}))
}

/// A question who one is.
pub(crate) fn me(token: &str) -> Vec<u8> {
    get("/api/me", &format!("Authorization: Bearer {token}\r\n"))
}

/// A question whether a login would be served.
pub(crate) fn ready() -> Vec<u8> {
    get("/health/ready", "")
}

/// The token that a login handed out, if it is this user's: passwords are hashed side by side, and an answer
/// must never reach a neighbour.
pub(crate) fn access_token(answer: &Answer<'_>, name: &str) -> Result<String, String> {
    let body = if answer.status == 200 { object(answer)? } else { return Err(unexpected(answer)) };
    let token = body["access_token"].as_str().unwrap_or_default();
    if claims(token).is_some_and(|claims| claims["preferred_username"] == *name) {
        Ok(token.to_owned())
    } else {
        Err(format!("a login of {name} got no token of {name}"))
    }
}

/// What an access token says.
fn claims(token: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?).ok()
}

/// The body of an answer to [`me`], if it is about this user.
pub(crate) fn whoever(answer: &Answer<'_>, name: &str) -> Result<Vec<u8>, String> {
    if answer.status == 200 && object(answer)?["username"] == *name {
        Ok(answer.body.to_owned())
    } else {
        Err(unexpected(answer))
    }
}

/// That it is a refusal as it should be.
fn refusal(answer: &Answer<'_>) -> Result<Reply, String> {
    let seconds = answer.header("retry-after").and_then(|seconds| seconds.parse::<u64>().ok());
    let is_problem = answer.header("content-type") == Some("application/problem+json");
    if is_problem && seconds.is_some_and(|seconds| seconds >= 1) && object(answer)?["code"] == "overloaded" {
        Ok(Reply::Refused)
    } else {
        Err(unexpected(answer))
    }
}

/// What to say of an answer that should not have been.
pub(crate) fn unexpected(answer: &Answer<'_>) -> String {
    let mut text = format!("{} ", answer.status);
    for byte in answer.body.iter().take(300) {
        // Writing into a string cannot fail.
        _ = write!(text, "{}", byte.escape_ascii());
    }
    text
}

/// The body as JSON.
pub(crate) fn object(answer: &Answer<'_>) -> Result<Value, String> {
    serde_json::from_slice(answer.body).map_err(|_| unexpected(answer))
}

fn post(path: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn get(path: &str, header: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{header}\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBLEM: &str = "Retry-After: 2\r\nContent-Type: application/problem+json\r\n";

    fn answer<'a>(status: u16, head: &'a str, body: &'a str) -> Answer<'a> {
        Answer { status, head: head.as_bytes(), body: body.as_bytes() }
    }

    fn judge_log_in(status: u16, headers: &str, body: &str) -> Result<Reply, String> {
        let head = format!("HTTP/1.1 {status} Any\r\n{headers}\r\n");
        LogIn::new("ann").judge(&answer(status, &head, body))
    }

    fn token_of(name: &str) -> String {
        let claims = URL_SAFE_NO_PAD.encode(json!({"preferred_username": name}).to_string());
        json!({"access_token": format!("e30.{claims}.c2ln")}).to_string()
    }

    #[test]
    fn a_login_is_done_with_a_token_of_ones_own() {
        assert_eq!(judge_log_in(200, "", &token_of("ann")), Ok(Reply::Done));
        for body in [&*token_of("bob"), r#"{"access_token":""}"#, "{}", ""] {
            assert!(judge_log_in(200, "", body).is_err(), "{body}");
        }
        assert!(judge_log_in(401, "", &token_of("ann")).is_err());
    }

    #[test]
    fn a_refusal_says_when_to_come_again() {
        let overloaded = r#"{"code":"overloaded"}"#;
        assert_eq!(judge_log_in(503, PROBLEM, overloaded), Ok(Reply::Refused));
        assert!(judge_log_in(503, PROBLEM, r#"{"code":"unavailable"}"#).is_err());
        for wrong in ["0", "-1", "1.5", "soon", ""] {
            assert!(judge_log_in(503, &PROBLEM.replace('2', wrong), overloaded).is_err(), "{wrong}");
        }
        assert!(judge_log_in(503, &PROBLEM.replace("problem+", ""), overloaded).is_err());
        assert!(judge_log_in(503, &PROBLEM.replace("Retry", "Do-Not-Retry"), overloaded).is_err());
    }

    #[test]
    fn what_does_not_change_is_compared_to_the_byte() {
        let mut me = Me::new("token", b"{}");

        assert_eq!(me.judge(&answer(200, "", "{}")), Ok(Reply::Done));
        assert!(me.judge(&answer(200, "", "{} ")).is_err());
        assert!(me.judge(&answer(503, "", "{}")).is_err());
    }

    fn tokens(session: &str, generation: u64, token: &str) -> String {
        let claims = URL_SAFE_NO_PAD.encode(json!({"jti": format!("{generation}.random")}).to_string());
        let access = format!("e30.{claims}.c2ln");
        json!({"access_token": access, "refresh_token": token, "session_id": session}).to_string()
    }

    #[test]
    fn a_refresh_is_done_with_the_next_generation_of_the_same_session() {
        let head = "HTTP/1.1 200 OK\r\n\r\n";
        let mut refresh = Refresh::of(&answer(200, head, &tokens("s", 1, "a"))).unwrap();
        assert!(refresh.request().ends_with(br#"{"refresh_token":"a"}"#));

        for (session, generation, token) in [("t", 2, "b"), ("s", 1, "b"), ("s", 3, "b"), ("s", 2, "a")] {
            assert!(refresh.judge(&answer(200, head, &tokens(session, generation, token))).is_err());
        }
        let reused = "HTTP/1.1 200 OK\r\nRefresh-Reuse: concurrent\r\n\r\n";
        assert!(refresh.judge(&answer(200, reused, &tokens("s", 2, "b"))).is_err());
        assert!(refresh.judge(&answer(401, head, &tokens("s", 2, "b"))).is_err());
        assert!(refresh.request().ends_with(br#"{"refresh_token":"a"}"#));

        assert_eq!(refresh.judge(&answer(200, head, &tokens("s", 2, "b"))), Ok(Reply::Done));
        assert!(refresh.request().ends_with(br#"{"refresh_token":"b"}"#));
        assert!(Refresh::of(&answer(200, head, r#"{"access_token":"e30.e30.c2ln"}"#)).is_err());
    }

    #[test]
    fn nobody_signs_up_under_a_name_that_is_taken() {
        let taken = Arc::new(AtomicUsize::new(0));
        let [mut one, mut other] = [SignUp::new(taken.clone()), SignUp::new(taken)];

        let requests = [one.request(), other.request()].map(<[u8]>::to_vec);

        assert_ne!(requests[0], requests[1]);
        assert_eq!(one.judge(&answer(201, "", r#"{"username":"newcomer0"}"#)), Ok(Reply::Done));
        assert!(other.judge(&answer(201, "", r#"{"username":"newcomer0"}"#)).is_err());
    }
}
