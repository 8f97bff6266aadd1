//! Somebody at the command line.

use serde_json::json;

use super::server::{Deployment, Finished, Server};

/// A password that may be chosen.
pub(crate) const PASSWORD: &str = "kq7wzmv1 river";

/// Makes a user.
pub(crate) fn create(deployment: &Deployment, name: &str) -> Finished {
    deployment.run_with(&["users", "create", name], PASSWORD)
}

/// Whom `users list` lists.
pub(crate) fn names(deployment: &Deployment) -> Vec<String> {
    let users = deployment.run(&["users", "list", "--json"]).json();
    users.as_array().unwrap().iter().map(|user| user["username"].as_str().unwrap().to_owned()).collect()
}

/// That it was refused: by exit code, with one line that says why, and no answer.
pub(crate) fn assert_refused(finished: &Finished, why: &str) {
    assert_eq!((finished.code, finished.stdout.as_str()), (3, ""), "{finished:?}");
    let errors: Vec<_> = finished.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(errors.len() == 1 && errors[0].contains(why), "{finished:?}");
}

/// The status of a login of ann.
pub(crate) async fn log_in(server: &Server, password: &str) -> u16 {
    let body = json!({"username": "ann", "password": password});
    let request = reqwest::Client::new().post(server.url("/api/login")).json(&body);
    request.send().await.unwrap().status().as_u16()
}
