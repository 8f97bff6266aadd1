//! What comes with the service for Prometheus and Grafana, against the running server.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::foreign;

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
            "process_threads",
            "auth_api_hashing_workers",
            "auth_api_hashing_workers_busy",
            "auth_api_database_connections_max",
            "auth_api_database_writes_total",
        ],
        "for whoever looks closer"
    );
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
fn promtool_takes_the_rules_and_whatever_asks_for_them() {
    if !foreign::is_installed("promtool") {
        foreign::skip("Prometheus' opinion of the rules", "promtool (apt install prometheus)");
        return;
    }

    for (what, path) in [("rules", RULES), ("config", "prometheus/prometheus.yml")] {
        let checked = Command::new("promtool").arg("check").arg(what).arg(docker(path)).output().unwrap();

        assert!(checked.status.success(), "{checked:?}");
    }
}
