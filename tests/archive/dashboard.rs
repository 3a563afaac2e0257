//! deploy/grafana/gtide.json asks for what the program shows, in queries that Prometheus understands.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::harness::lab_program;
use crate::metrics::{documented, family};

const DASHBOARD: &str = include_str!("../../deploy/grafana/gtide.json");

/// Grafana's grid.
const COLUMNS: u64 = 24;

fn dashboard() -> Value {
    serde_json::from_str(DASHBOARD).unwrap()
}

fn panels(dashboard: &Value) -> &Vec<Value> {
    dashboard["panels"].as_array().unwrap()
}

/// Every expression, by the title of its panel.
fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for panel in panels(dashboard) {
        let title = panel["title"].as_str().unwrap();
        for target in panel["targets"].as_array().into_iter().flatten() {
            all.push((
                title.to_owned(),
                target["expr"].as_str().unwrap().to_owned(),
            ));
        }
    }
    assert!(all.len() > 30, "{all:?}");
    all
}

/// Names of metrics in an expression.
fn metrics(expression: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = expression.split(|c| !is_name(c));
    let names = words.filter(|word| word.starts_with("gtide_"));
    names.map(family).collect()
}

#[test]
fn every_panel_asks_for_metrics_that_are_shown_and_every_metric_has_a_panel() {
    let dashboard = dashboard();
    let documented = documented();
    let mut asked = BTreeSet::new();
    for (title, expression) in expressions(&dashboard) {
        let names = metrics(&expression);
        assert!(!names.is_empty(), "{title}: {expression}");
        let unknown: Vec<_> = names.difference(&documented).collect();
        assert!(unknown.is_empty(), "{title}: {unknown:?}");
        asked.extend(names);
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let query = variable["query"]["query"].as_str().unwrap_or_default();
        assert!(metrics(query).is_subset(&documented), "{query}");
    }
    // When credentials are renewed is for the alert.
    let mut left: Vec<_> = documented.difference(&asked).collect();
    left.retain(|name| *name != "credentials_renewal_timestamp_seconds");
    assert!(left.is_empty(), "on no panel: {left:?}");
}

#[test]
fn panels_have_a_datasource_by_variable_and_a_place_of_their_own() {
    let dashboard = dashboard();
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels(&dashboard) {
        let title = &panel["title"];
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        let of = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(of("x") + of("w") <= COLUMNS, "{title}");
        for row in of("y")..of("y") + of("h") {
            for column in of("x")..of("x") + of("w") {
                assert!(cells.insert((row, column)), "{title} covers another panel");
            }
        }
        for target in panel["targets"].as_array().into_iter().flatten() {
            for place in [panel, target] {
                assert_eq!(place["datasource"]["uid"], "${datasource}", "{title}");
            }
        }
    }
}

/// Prometheus has a parser for rules alone: each expression is made one.
#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn prometheus_understands_every_expression() {
    let rule = |(number, (title, expression)): (usize, (String, String))| {
        let expression = expression
            .replace("$__rate_interval", "5m")
            .replace("$source", ".*")
            .replace("$destination", ".*");
        assert!(!expression.contains('$'), "{title}: {expression}");
        format!("  - record: dashboard:expression_{number}\n    expr: '{expression}'\n")
    };
    let rules: String = expressions(&dashboard())
        .into_iter()
        .enumerate()
        .map(rule)
        .collect();
    let rules = format!("groups:\n- name: dashboard\n  rules:\n{rules}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rules.yml");
    fs::write(&file, &rules).unwrap();
    let output = Command::new(lab_program("promtool"))
        .args(["check", "rules"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}\n{rules}");
}
