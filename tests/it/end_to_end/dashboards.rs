//! What comes with the service for Prometheus and Grafana, against the running server.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::external_tools;

fn docker(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docker").join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(docker(path)).unwrap()
}

const DASHBOARD: &str = "grafana/provisioning/dashboards/auth-api.json";
const RULES: &str = "prometheus/rules.yml";

/// The measurements that a text names.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'));
    words.filter(|word| word.starts_with("auth_api_") || word.starts_with("process_")).collect()
}

#[tokio::test]
async fn every_measurement_that_a_panel_or_an_alert_asks_for_is_there() {
    let server = super::deployment().serve();
    let client = Client::of(&server);
    let token = client.token_of_new("ann").await;
    client.log_in("ann", "wrong").await;
    client.me(&token).await;
    let ops = Client::of_operators(&server);
    let metrics = ops.get("/metrics").await;
    let lines = metrics.text().lines().filter(|line| !line.starts_with('#'));
    let mut shown: BTreeSet<_> = lines.map(|line| line.split(['{', ' ']).next().unwrap()).collect();
    // Of a certificate only whoever has one can tell.
    let encrypted = super::tls::Pair::of("localhost").put_into(super::deployment()).serve();
    let metrics_of_tls = Client::of_operators(&encrypted).get("/metrics").await;
    let of_tls = metrics_of_tls.text().lines().filter_map(|line| line.split_once(' '));
    shown.extend(of_tls.map(|(name, _)| name).filter(|name| name.starts_with("auth_api_tls_")));

    for path in [DASHBOARD, RULES] {
        let text = read(path);
        let asked = named(&text);

        assert!(asked.len() > 5, "{path}: {asked:?}");
        let missing: Vec<_> = asked.difference(&shown).collect();
        assert!(missing.is_empty(), "{path} names {missing:?}, and there are {shown:#?}");
    }
    // The other way round, so that what is measured can be seen.
    let (dashboard, rules) = (read(DASHBOARD), read(RULES));
    let asked: BTreeSet<_> = named(&dashboard).union(&named(&rules)).copied().collect();
    let families = metrics.text().lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let unseen: Vec<_> =
        families.filter(|family| !asked.iter().any(|name| name.starts_with(family))).collect();
    assert_eq!(
        unseen,
        [
            "process_max_fds",
            "process_threads",
            "auth_api_log_lines_dropped_total",
            "auth_api_hashing_workers",
            "auth_api_hashing_workers_busy",
            "auth_api_database_connections_max",
            "auth_api_database_writes_total",
        ],
        "for whoever looks closer"
    );
}

/// What the selectors of a text ask for, as a name, a label, and one of the values that it may have.
fn selected(text: &str) -> Vec<(&str, &str, &str)> {
    let selectors = text.split('}').filter_map(|part| part.rsplit_once('{'));
    let named = selectors.filter_map(|(before, labels)| {
        let name = before.rsplit(|it: char| !(it.is_ascii_alphanumeric() || it == '_')).next()?;
        name.starts_with("auth_api_").then_some((name, labels))
    });
    let pairs = named.flat_map(|(name, labels)| {
        labels.split(',').filter_map(move |pair| {
            let (label, values) = pair.trim().split_once('=')?;
            Some((name, label, values.trim_start_matches('~').trim_matches('"')))
        })
    });
    pairs
        .flat_map(|(name, label, values)| values.split('|').map(move |value| (name, label, value)))
        // Prometheus adds it.
        .filter(|(_, label, _)| *label != "job")
        .collect()
}

#[tokio::test]
async fn every_label_that_an_alert_asks_for_has_that_value_somewhere() {
    let server = super::deployment().set("AUTH_LIMITS__ENABLED", "true").serve();
    let client = Client::of(&server);
    let token = client.token_of_new("ann").await;
    for _ in 0..6 {
        client.log_in("ann", "wrong").await;
    }
    client.me(&token).await;
    let metrics = Client::of_operators(&server).get("/metrics").await;
    let rules = read(RULES);

    let asked = selected(&rules);

    assert!(asked.len() > 8, "{asked:?}");
    for (name, label, value) in asked {
        let pair = format!("{label}=\"{value}\"");
        let is_shown = |line: &str| line.starts_with(&format!("{name}{{")) && line.contains(&pair);
        assert!(metrics.text().lines().any(is_shown), "{name} has no {pair}:\n{}", metrics.text());
    }
}

#[test]
fn the_dashboard_is_one_that_grafana_takes() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();

    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    let source = json!({ "type": "prometheus", "uid": "prometheus" });
    for panel in panels {
        assert_eq!(panel["datasource"], source);
        assert!(panel["description"].as_str().is_some_and(|text| !text.is_empty()), "{panel}");
        let place = &panel["gridPos"];
        assert!(place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24, "{panel}");
    }
    // The one that is provisioned.
    assert!(read("grafana/provisioning/datasources/prometheus.yml").contains("uid: prometheus"));
}

#[test]
fn promtool_takes_the_rules_and_sees_each_alert_fire() {
    if !external_tools::is_installed("promtool") {
        external_tools::skip("Prometheus' opinion of the rules", "promtool (apt install prometheus)");
        return;
    }

    for (task, path) in [
        (["check", "rules"], RULES),
        (["check", "config"], "prometheus/prometheus.yml"),
        (["test", "rules"], "../tests/it/end_to_end/alerts.yml"),
    ] {
        let checked = Command::new("promtool").args(task).arg(docker(path)).output().unwrap();

        assert!(checked.status.success(), "{checked:?}");
    }
}
