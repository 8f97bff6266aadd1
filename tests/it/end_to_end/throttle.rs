use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::{join, join_all, join3};
use serde_json::json;

use crate::support::client::{Answer, Client, PASSWORD};
use crate::support::server::{Deployment, Server};

fn limited() -> Deployment {
    super::deployment().set("AUTH_LIMITS__ENABLED", "true")
}

#[tokio::test]
async fn a_name_that_nobody_has_is_throttled_like_one_that_somebody_has() {
    let server = limited().serve();
    let client = Client::of(&server);
    client.sign_up("ann", PASSWORD).await;

    // Each from an address of its own, which is told alike how much is left to it.
    let guessers = [("ann", 1), ("eve", 2), ("no name", 3)]
        .map(|(name, last)| (name, Client::at(&server, [127, 0, 1, last])));
    let one_round =
        || join_all(guessers.each_ref().map(|(name, client)| client.log_in(name, "a wrong guess")));

    for _ in 0..5 {
        let round: Vec<_> = one_round().await.iter().map(told).collect();
        assert_eq!(round[0].0, 401);
        assert!(round.iter().all(|other| *other == round[0]), "{round:#?}");
    }
    // At once, unless the machine takes a second for that, or two, or four.
    let mut round = one_round().await;
    for _ in 0..3 {
        if round.iter().any(|answer| answer.status != 429) {
            round = one_round().await;
        }
    }

    round[0].assert_problem(429, "too_many_requests");
    assert!(round[0].header("Retry-After").parse::<u8>().is_ok_and(|seconds| (1..=8).contains(&seconds)));
    let round: Vec<_> = round.iter().map(told).collect();
    assert!(round.iter().all(|other| *other == round[0]), "{round:#?}");
}

/// All that a client is told, but for what is each request's own.
fn told(answer: &Answer) -> (u16, BTreeSet<String>, String) {
    let id = answer.header("X-Request-Id");
    let headers = answer.headers.iter().map(|(name, value)| {
        let its_own = ["x-request-id", "date", "retry-after"].contains(&name.as_str());
        format!("{name}: {}", if its_own { "" } else { value.to_str().unwrap() })
    });
    // In no order: that of a table in memory.
    (answer.status.as_u16(), headers.collect(), answer.text().replace(id, ""))
}

#[tokio::test]
async fn of_three_hundred_guesses_from_a_hundred_addresses_few_are_compared_and_nobody_else_notices() {
    let server = limited().set("AUTH_LIMITS__FAILURES", "10").serve();
    let home = Client::of(&server);
    for name in ["ann", "bob"] {
        home.sign_up(name, PASSWORD).await;
        assert_eq!(home.log_in(name, PASSWORD).await.status, 200);
    }
    let attackers: Vec<_> = (1..=100).map(|last| Client::at(&server, [127, 0, 1, last])).collect();
    let elsewhere = Client::at(&server, [127, 0, 2, 1]);

    let guesses = join_all((0..300).map(|n| attackers[n % 100].log_in("ann", "a wrong guess")));
    let of_others = join_all((0..20).map(|_| elsewhere.log_in("bob", PASSWORD)));
    let (guesses, of_others, of_owner) = join3(guesses, of_others, home.log_in("ann", PASSWORD)).await;

    assert_eq!(of_owner.status, 200, "{of_owner:?}");
    for let_in in of_others {
        assert_eq!(let_in.status, 200, "{let_in:?}");
    }
    let statuses: BTreeSet<_> = guesses.iter().map(|answer| answer.status.as_u16()).collect();
    assert!(statuses.contains(&429) && statuses.is_subset(&[401, 429, 503].into()), "{statuses:?}");
    let compared = guesses.iter().filter(|answer| answer.status == 401).count();
    // Five at once, and one more for each delay that passed meanwhile.
    assert!((5..=10).contains(&compared), "{compared}");
    let audit = server.log().audit();
    let wrong = audit.iter().filter(|line| line["reason"] == "wrong_password").count();
    assert_eq!(wrong, compared);
}

#[tokio::test]
async fn no_address_that_a_client_claims_to_have_makes_it_another_one() {
    let deployment = limited();
    let server = deployment.serve();
    let client = Client::of(&server);
    client.sign_up("ann", PASSWORD).await;
    assert_eq!(client.log_in("ann", PASSWORD).await.status, 200);
    let attacker = Client::at(&server, [127, 0, 0, 2]);
    let guess = || {
        let body = json!({ "username": "ann", "password": "a wrong guess" });
        let claimed = attacker.request("POST", "/api/login").header("X-Forwarded-For", "127.0.0.1");
        attacker.send(claimed.header("Forwarded", "for=127.0.0.1").json(&body))
    };
    for _ in 0..5 {
        assert_eq!(guess().await.status, 401);
    }
    lengthen_delays(&deployment);

    assert_eq!(guess().await.status, 429);

    assert_eq!(client.log_in("ann", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn waiting_as_long_as_one_is_told_works() {
    let server = limited().serve();
    let client = Client::of(&server);
    client.sign_up("ann", PASSWORD).await;
    let throttled = throttle(&client, "ann").await;

    let seconds = throttled.header("Retry-After").parse().unwrap();
    assert!((1..=8).contains(&seconds), "{seconds}");
    tokio::time::sleep(Duration::from_secs(seconds)).await;

    assert_eq!(client.log_in("ann", PASSWORD).await.status, 200);
    // And the success has cleared it.
    for _ in 0..5 {
        assert_eq!(client.log_in("ann", "a wrong guess").await.status, 401);
    }
}

#[tokio::test]
async fn all_spellings_of_a_name_share_one_counter() {
    let deployment = limited();
    let server = deployment.serve();
    let client = Client::of(&server);
    client.sign_up("zoe\u{301}", PASSWORD).await;
    let spellings = ["zoe\u{301}", "zo\u{e9}", "ZO\u{c9}", "Zoe\u{301}", "ｚｏ\u{e9}"];

    for spelling in spellings {
        assert_eq!(client.log_in(spelling, "a wrong guess").await.status, 401, "{spelling}");
    }
    lengthen_delays(&deployment);

    for spelling in spellings {
        assert_eq!(client.log_in(spelling, PASSWORD).await.status, 429, "{spelling}");
    }
}

#[tokio::test]
async fn wherever_a_password_is_asked_for_the_same_counter_is_used() {
    let deployment = limited();
    let server = deployment.serve();
    let client = Client::of(&server);
    let token = client.token_of_new("ann").await;
    let (wrong, right) = ("a wrong guess", PASSWORD);
    let change = |current: &str| {
        let body = json!({ "current_password": current, "new_password": "eight grey herons wade" });
        client.send(client.request("PUT", "/api/me/password").bearer_auth(&token).json(&body))
    };
    let close = |password: &str| {
        let body = json!({ "password": password });
        client.send(client.request("DELETE", "/api/me").bearer_auth(&token).json(&body))
    };

    assert_eq!(change(wrong).await.status, 403);
    assert_eq!(close(wrong).await.status, 403);
    assert_eq!(client.log_in("ann", wrong).await.status, 401);
    assert_eq!(close(wrong).await.status, 403);
    assert_eq!(change(wrong).await.status, 403);
    lengthen_delays(&deployment);

    change(right).await.assert_problem(429, "too_many_requests");
    close(right).await.assert_problem(429, "too_many_requests");
    client.log_in("ann", right).await.assert_problem(429, "too_many_requests");
    assert_eq!(client.me(&token).await.status, 200);
}

#[tokio::test]
async fn a_full_counter_outlasts_a_restart_and_an_operator_opens_it() {
    let deployment = limited();
    let server = deployment.serve();
    let client = Client::of(&server);
    client.sign_up("ann", PASSWORD).await;
    assert_eq!(client.log_in("ann", "a wrong guess").await.status, 401);
    assert_eq!(client.log_in("eve", "a wrong guess").await.status, 401);
    // Those after the fifth take hours, of which a test has none.
    deployment.tamper("UPDATE throttles SET failures = 100");

    let server = server.restart();

    let client = Client::of(&server);
    for name in ["ann", "eve"] {
        let full = client.log_in(name, PASSWORD).await;
        full.assert_problem(429, "too_many_requests");
        assert_eq!(full.header("Retry-After"), "86400");
    }
    let shown = || deployment.run(&["users", "show", "ann", "--json"]).json()["wrong_passwords"].clone();
    assert_eq!(shown(), json!({ "elsewhere": 100 }));
    let unlocked = deployment.run(&["users", "unlock", "ANN"]);
    assert_eq!((unlocked.code, unlocked.stdout.as_str()), (0, "ann is unlocked\n"), "{unlocked:?}");
    assert_eq!(shown(), json!({}));
    assert_eq!(client.log_in("ann", PASSWORD).await.status, 200);
    let unknown = deployment.run(&["users", "unlock", "eve"]);
    assert_eq!((unknown.code, unknown.stderr.contains("there is no user eve")), (3, true), "{unknown:?}");
    assert_eq!(client.log_in("eve", PASSWORD).await.status, 429);
    let events = deployment.run(&["audit", "list", "--json", "--user", "ann"]).json();
    let events = events.as_array().unwrap();
    assert!(events.iter().any(|event| event["event"] == "unlock" && event["outcome"] == "success"));
}

#[tokio::test]
async fn a_password_that_an_operator_sets_is_good_at_once_for_whoever_was_throttled() {
    let deployment = limited();
    let server = deployment.serve();
    let client = Client::of(&server);
    client.sign_up("ann", PASSWORD).await;
    throttle(&client, "ann").await;

    let set = deployment.run_with(&["users", "set-password", "ann"], "eight grey herons wade\n");

    assert_eq!(set.code, 0, "{set:?}");
    assert_eq!(client.log_in("ann", "eight grey herons wade").await.status, 200);
}

#[tokio::test]
async fn what_was_throttled_is_in_the_log_and_counted_in_the_audit_log() {
    let deployment = limited();
    let server = deployment.serve();
    let client = Client::of(&server);
    client.sign_up("ann", PASSWORD).await;
    throttle(&client, "ann").await;
    lengthen_delays(&deployment);

    assert_eq!(client.log_in("ann", PASSWORD).await.status, 429);

    server.log().wait_for_all("an attempt", 2, |line| {
        line["event"] == "log_in" && line["outcome"] == "refused" && line["reason"] == "throttled"
    });
    assert!(server.stop().success());
    let events = deployment.run(&["audit", "list", "--json"]).json();
    let throttled: Vec<_> =
        events.as_array().unwrap().iter().filter(|event| event["reason"] == "throttled").collect();
    assert_eq!(throttled.len(), 1, "{throttled:#?}");
    assert_eq!(throttled[0]["count"], 2);
}

#[tokio::test]
async fn two_servers_on_one_database_count_together() {
    let deployment = limited();
    let (one, other) = (deployment.serve(), deployment.serve());
    let [here, there] = [&one, &other].map(|server: &Server| Client::of(server));
    here.sign_up("ann", PASSWORD).await;

    let guesses = |client: &Client| {
        let client = client.clone();
        async move { join_all((0..20).map(|_| client.log_in("ann", "a wrong guess"))).await }
    };
    let (at_one, at_other) = join(guesses(&here), guesses(&there)).await;

    let compared = at_one.iter().chain(&at_other).filter(|answer| answer.status == 401).count();
    // Five at once, and one more for each delay that passed meanwhile.
    assert!((5..=10).contains(&compared), "{compared}");
}

/// Guesses until a guess is not looked at: after the fifth, unless the machine takes as long for the next as a delay is.
async fn throttle(client: &Client, name: &str) -> Answer {
    for _ in 0..5 {
        assert_eq!(client.log_in(name, "a wrong guess").await.status, 401);
    }
    for _ in 0..4 {
        let answer = client.log_in(name, "a wrong guess").await;
        if answer.status != 401 {
            answer.assert_problem(429, "too_many_requests");
            return answer;
        }
    }
    panic!("nothing keeps anybody from guessing");
}

/// Five failures delay for as long as fifteen do, which is longer than a test takes; one delays for as long as three do,
/// which is not at all.
fn lengthen_delays(deployment: &Deployment) {
    deployment.tamper("UPDATE throttles SET failures = 3 * failures");
}
