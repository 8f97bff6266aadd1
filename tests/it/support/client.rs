//! A client of the running server that keeps what it was answered, and no client at all where one would be
//! in the way of what a test sends.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use super::server::Server;

/// A password that may be chosen.
pub(crate) const PASSWORD: &str = "seven brown otters sing";

/// A client of one server.
#[derive(Clone)]
pub(crate) struct Client {
    base_url: String,
    http: reqwest::Client,
}

/// What was answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Client {
    pub(crate) fn of(server: &Server) -> Self {
        Self::at(server, [127, 0, 0, 1])
    }

    /// A client of its listener for operators.
    pub(crate) fn of_operators(server: &Server) -> Self {
        Self { base_url: server.ops_url().to_owned(), ..Self::of(server) }
    }

    /// A client of what stands before a server, at this URL.
    pub(crate) fn before(server: &Server, base_url: &str) -> Self {
        Self { base_url: base_url.to_owned(), ..Self::of(server) }
    }

    /// A client whose own address is this one, of 127.0.0.0/8.
    pub(crate) fn at(server: &Server, address: [u8; 4]) -> Self {
        let http = reqwest::Client::builder().no_proxy().local_address(IpAddr::from(address));
        // A redirect is an answer like any other.
        let http = http.redirect(Policy::none());
        Self { base_url: server.base_url().to_owned(), http: http.build().unwrap() }
    }

    /// The same client, by a proxy whose URL this is.
    pub(crate) fn through(self, base_url: String) -> Self {
        Self { base_url, ..self }
    }

    /// A request to be added to and then [sent](Self::send).
    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.http.request(method, format!("{}{path}", self.base_url))
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Answer {
        self.try_send(request).await.unwrap()
    }

    /// For a server that may be gone before it has answered to the end.
    pub(crate) async fn try_send(&self, request: RequestBuilder) -> Result<Answer, reqwest::Error> {
        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Answer { status, headers, bytes: response.bytes().await?.to_vec() })
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request("GET", path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request("POST", path).json(body)).await
    }

    /// Posts a text as it is, declared as JSON.
    pub(crate) async fn post_text(&self, path: &str, text: impl Into<Vec<u8>>) -> Answer {
        let request = self.request("POST", path).header("Content-Type", "application/json");
        self.send(request.body(text.into())).await
    }

    pub(crate) async fn sign_up(&self, username: &str, password: &str) -> Answer {
        self.post("/api/signup", &json!({ "username": username, "password": password })).await
    }

    pub(crate) async fn log_in(&self, username: &str, password: &str) -> Answer {
        self.post("/api/login", &json!({ "username": username, "password": password })).await
    }

    pub(crate) async fn me(&self, token: &str) -> Answer {
        self.send(self.request("GET", "/api/me").header("Authorization", format!("Bearer {token}"))).await
    }

    /// The token of a user of this name, who is made for it.
    pub(crate) async fn token_of_new(&self, username: &str) -> String {
        assert_eq!(self.sign_up(username, PASSWORD).await.status, 201);
        self.log_in(username, PASSWORD).await.token()
    }
}

impl Answer {
    /// The body, which must be JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The access token of a login.
    pub(crate) fn token(&self) -> String {
        self.json()["access_token"].as_str().unwrap_or_else(|| panic!("no token: {self:?}")).to_owned()
    }

    /// The refresh token of a login or a refresh.
    pub(crate) fn refresh_token(&self) -> String {
        self.json()["refresh_token"].as_str().unwrap_or_else(|| panic!("no token: {self:?}")).to_owned()
    }

    /// Asserts that this is a problem document of this status and code, with all that every problem has.
    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!(
            (self.status.as_u16(), self.header("Content-Type")),
            (status, "application/problem+json"),
            "{self:?}"
        );
        let problem = self.json();
        assert_eq!((&problem["code"], &problem["status"]), (&json!(code), &json!(status)));
        assert_eq!(problem["type"], json!(format!("http://localhost:8000/problems/{code}")));
        assert_eq!(problem["request_id"], json!(self.header("X-Request-Id")));
        for member in ["title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| text.len() > 8), "{problem}");
        }
        assert_eq!(problem.get("errors").is_some(), [409, 422].contains(&status), "{problem}");
    }

    /// Asserts that this is a 422 that names exactly this field, with this code.
    #[track_caller]
    pub(crate) fn assert_field(&self, field: &str, code: &str) {
        self.assert_problem(422, "validation_failed");
        let errors = self.json()["errors"].clone();
        assert_eq!(errors.as_array().map(Vec::len), Some(1), "{errors}");
        assert_eq!((&errors[0]["field"], &errors[0]["code"]), (&json!(field), &json!(code)));
        assert!(errors[0]["message"].as_str().is_some_and(|text| text.len() > 5), "{errors}");
    }
}

/// Sends bytes as they are and reads until the server closes the connection.
pub(crate) fn exchange(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    // The server may answer and close before it has read everything.
    _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}
