//! `docs/from-litellm-metrics.md` has every metric of LiteLLM once, and no name that is not ours.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use tollgate::telemetry::catalog::{CATALOG, Descriptor, Kind};

/// What LiteLLM 1.109 registers.
const LITELLM_METRICS: usize = 89;

/// The one label of LiteLLM's that begins like its metrics.
const LITELLM_LABEL: &str = "litellm_model_name";

/// How the names of our metrics begin, and of some of our labels.
const OUR_PREFIXES: [&str; 5] = ["tollgate_", "gen_ai_", "http_", "otel_", "process_"];

/// Labels that Prometheus adds: from the resource, and for the buckets of a histogram.
const PROMETHEUS_LABELS: [&str; 3] = ["job", "instance", "le"];

fn document() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/from-litellm-metrics.md")).unwrap()
}

/// The cells of every row of a metric table: a row that begins with a metric of LiteLLM.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let rows = text.lines().filter(|line| line.starts_with("| `litellm_"));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// The words of a text that could be names in Prometheus. One that ends in `_` stands for several.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'))
        .filter(|word| !word.is_empty() && !word.ends_with('_'))
}

fn is_ours(word: &str) -> bool {
    OUR_PREFIXES.iter().any(|prefix| word.starts_with(prefix))
}

fn underscored(name: &str) -> String {
    name.replace('.', "_")
}

/// The names of the series that Prometheus 3 makes of a metric (UnderscoreEscapingWithSuffixes).
fn series_names(metric: &Descriptor) -> Vec<String> {
    let mut name = underscored(metric.name);
    match metric.unit {
        "s" => name += "_seconds",
        "By" => name += "_bytes",
        "1" if matches!(metric.kind, Kind::Gauge) => name += "_ratio",
        unit => assert!(unit.starts_with('{'), "{}: what does Prometheus make of the unit {unit:?}?", metric.name),
    }
    match metric.kind {
        Kind::Counter | Kind::ObservableCounter => vec![name + "_total"],
        Kind::UpDownCounter | Kind::Gauge => vec![name],
        Kind::Histogram(_) => ["_bucket", "_sum", "_count"].iter().map(|suffix| format!("{name}{suffix}")).collect(),
    }
}

/// The labels of every series, by its name.
fn series() -> BTreeMap<String, BTreeSet<String>> {
    let mut series = BTreeMap::new();
    for metric in CATALOG {
        let labels: BTreeSet<String> = metric.attributes.iter().map(|key| underscored(key)).collect();
        for name in series_names(metric) {
            series.insert(name, labels.clone());
        }
    }
    assert!(series.len() > CATALOG.len());
    series
}

#[test]
fn every_metric_of_litellm_has_one_row() {
    let text = document();
    let mut seen = BTreeSet::new();
    for row in rows(&text) {
        assert_eq!(row.len(), 3, "{row:?} has not three cells");
        assert!(row.iter().all(|cell| !cell.is_empty()), "{row:?} has an empty cell");
        let name = row[0].trim_matches('`');
        assert_eq!(words(row[0]).collect::<Vec<_>>(), [name], "the first cell is one metric");
        assert!(seen.insert(name), "{name} has two rows");
    }
    assert_eq!(seen.len(), LITELLM_METRICS);
    for word in words(&text).filter(|word| word.starts_with("litellm_") && *word != LITELLM_LABEL) {
        assert!(seen.contains(word), "{word} is named and has no row");
    }
}

#[test]
fn every_name_of_ours_is_in_the_catalog() {
    let text = document();
    let series = series();
    let labels: BTreeSet<&String> = series.values().flatten().collect();
    let mut named = 0;
    for word in words(&text).filter(|word| is_ours(word)) {
        named += 1;
        let known = series.contains_key(word) || labels.contains(&word.to_owned());
        assert!(known, "{word} is neither a series nor a label of the catalog");
    }
    assert!(named >= 100, "found only {named} names; did the parsing break?");
    for row in rows(&text) {
        for word in words(row[1]) {
            let replaces = series.contains_key(word) || !word.contains('_');
            assert!(replaces, "{word} is said to replace {} and is no series of the catalog", row[0]);
        }
    }
}

/// A query with a label that its metric lacks parses, and selects nothing or everything.
#[test]
fn queries_use_labels_that_the_metric_has() {
    let text = document();
    let series = series();
    let mut checked = 0;
    for query in rows(&text).iter().flat_map(|row| row[2].split('`').skip(1).step_by(2)) {
        let metrics: Vec<&str> = words(query).filter(|word| series.contains_key(*word)).collect();
        for by in query.split(" by (").skip(1) {
            for label in words(by.split(')').next().unwrap()).filter(|label| !PROMETHEUS_LABELS.contains(label)) {
                for metric in &metrics {
                    assert!(series[*metric].contains(label), "{metric} has no label {label}: {query}");
                }
            }
        }
        for (metric, matchers) in selectors(query) {
            for label in matchers.split(',').map(|matcher| matcher.split(['=', '!']).next().unwrap()) {
                assert!(series[metric].contains(label), "{metric} has no label {label}: {query}");
                checked += 1;
            }
        }
    }
    assert!(checked >= 20, "checked only {checked} matchers; did the parsing break?");
}

/// The metrics of a query that are followed by `{…}`, with what stands between the braces.
fn selectors(query: &str) -> Vec<(&str, &str)> {
    let mut parts = query.split('{');
    let mut before = parts.next().unwrap();
    let mut found = Vec::new();
    for part in parts {
        let (matchers, after) = part.split_once('}').unwrap();
        found.push((words(before).last().unwrap(), matchers));
        before = after;
    }
    found
}
