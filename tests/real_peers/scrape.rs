//! A real Prometheus that scrapes the gateway and receives its pushes: two ways, one truth.

use std::collections::{BTreeMap, BTreeSet};

use tollgate::config::Secret;

use crate::{
    peers::{PROMETHEUS, peers},
    process::eventually_ok,
    prometheus::{Prometheus, Series},
    tollgate_thread::{Gateway, config},
};

const TOKEN: &str = "admin-token-of-the-peers";

/// The last value by name and labels; those of the moment at which they were read have none.
type Values = BTreeMap<BTreeMap<String, String>, Option<f64>>;

fn values(prometheus: &Prometheus, job: &str) -> Values {
    let series = prometheus.series(&format!("{{job=\"{job}\"}}"));
    let of_the_scrape = ["up", "scrape_duration_seconds"];
    let own = series.iter().filter(|series| {
        let name = &series.labels["__name__"];
        !of_the_scrape.contains(&name.as_str()) && !name.starts_with("scrape_")
    });
    own.map(|series| (plain(series), last(series))).collect()
}

/// Labels without those that say which way the series came.
fn plain(series: &Series) -> BTreeMap<String, String> {
    let mut labels = series.labels.clone();
    labels.remove("job");
    assert!(labels.remove("instance").is_some(), "{labels:?}");
    if let Some(le) = labels.get_mut("le") {
        // Prometheus writes `1.0` for a scraped bound and `1` for a pushed one.
        *le = le.parse::<f64>().unwrap().to_string();
    }
    if labels["__name__"] == "target_info" {
        // A push has them as `job` and `instance`.
        labels.retain(|name, _| !matches!(name.as_str(), "service_name" | "service_instance_id"));
    }
    labels
}

fn last(series: &Series) -> Option<f64> {
    let of_the_moment = ["process_", "otel_sdk_exporter_", "tollgate_export_"];
    let name = &series.labels["__name__"];
    (!of_the_moment.iter().any(|prefix| name.starts_with(prefix))).then(|| series.last())
}

#[test]
fn a_scrape_and_a_push_store_the_same_series() {
    let Some([prometheus]) = peers([PROMETHEUS]) else { return };
    let prometheus = Prometheus::scraping(&prometheus, TOKEN);
    let endpoint = prometheus.otlp_endpoint();
    let mut config = config(&[
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &endpoint),
        ("OTEL_METRIC_EXPORT_INTERVAL", "250"),
        ("OTEL_SERVICE_NAME", "pushed"),
    ]);
    config.admin.token = Some(Secret::new(TOKEN));
    let mut gateway = Gateway::start(config).unwrap();
    prometheus.scrape(gateway.admin());
    prometheus.wait_for("tollgate_requests_total{job=\"scraped\"}");
    (1..6).for_each(|words| gateway.chat(words));
    // Both may agree on a moment before the last chat: how many they hold comes first.
    let completed = "tollgate_requests_total{job=\"scraped\",tollgate_outcome=\"completed\"}";
    eventually_ok("the scrape holds every chat", || match prometheus.total(completed) {
        5.0 => Ok(()),
        total => Err(format!("{total} of 5 chats")),
    });

    eventually_ok("a scrape and a push agree", || {
        let (scraped, pushed) = (values(&prometheus, "scraped"), values(&prometheus, "pushed"));
        if scraped == pushed && scraped.len() > 200 {
            return Ok(());
        }
        let set = |values: &Values| values.iter().map(|series| format!("{series:?}")).collect::<BTreeSet<_>>();
        let difference: Vec<_> = set(&scraped).symmetric_difference(&set(&pushed)).cloned().collect();
        Err(format!("{} and {} series; {difference:#?}", scraped.len(), pushed.len()))
    });
    assert_eq!(prometheus.total(completed), 5.0);
    gateway.stop();
}
