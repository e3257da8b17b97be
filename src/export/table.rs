//! A snapshot as a short table for a person at a terminal: `tollgate demo` and the console exporter.
//!
//! Shows what moved, then what is not zero; fits 100 columns and a quarter of a screen. Not a
//! format: nothing should parse it.

use std::{collections::HashMap, fmt::Write as _};

use super::{Delivery, Report};
use crate::telemetry::{
    Attribute, Snapshot,
    aggregation::Buckets,
    catalog::{Descriptor, Group, Kind},
    snapshot::Point,
};

const COLUMNS: usize = 100;
const ROWS_MAX: usize = 20;

/// Records below which a histogram shows its average only.
const QUANTILE_COUNT_MIN: u64 = 10;

/// Attributes that are the same everywhere in a demo, or say what another one says.
const LEFT_OUT: &[&str] = &[
    "url.scheme",
    "http.request.method",
    "server.address",
    "server.port",
    "otel.component.name",
    "otel.component.type",
    "tollgate.model",
    "gen_ai.provider.name",
];

/// Renders exports one after the other and remembers what moved.
#[derive(Debug)]
pub struct Table {
    /// What is said of an export that is not sent.
    off: &'static str,
    /// A value or count by metric and attributes.
    before: HashMap<(&'static str, Vec<Attribute>), u64>,
}

struct Row {
    /// Own numbers last, what moved first, then in the order of the catalog.
    rank: (bool, bool, usize),
    name: &'static str,
    attributes: String,
    value: String,
}

impl Table {
    /// Of a gateway that shows its exports because nobody said where to push them.
    pub fn demo() -> Self {
        Self { off: "not pushed (no OTEL_EXPORTER_OTLP_* set)", before: HashMap::new() }
    }

    /// Of the console exporter.
    pub fn console() -> Self {
        Self { off: "console", before: HashMap::new() }
    }

    /// One export: a header line and, unless nothing happened since the last one, a row for each
    /// series worth showing.
    pub fn render(&mut self, snapshot: &Snapshot, report: &Report) -> String {
        let is_first = self.before.is_empty();
        let mut rows = self.rows(snapshot);
        rows.sort_by(|a, b| a.rank.cmp(&b.rank).then_with(|| a.attributes.cmp(&b.attributes)));
        let left_over = rows.len().saturating_sub(ROWS_MAX);
        rows.truncate(ROWS_MAX);

        let width = |text: fn(&Row) -> &str| rows.iter().map(|row| text(row).chars().count()).max().unwrap_or(0);
        let (names, values) = (width(|row| row.name), width(|row| &row.value));
        let attributes = width(|row| &row.attributes).min(COLUMNS.saturating_sub(names + values + 6));
        let mut out = header(snapshot, report, self.off);
        let moved = rows.iter().any(|row| matches!(row.rank, (false, false, _)));
        if !moved && !is_first {
            out.push_str(" · nothing new");
            return out;
        }
        for row in &rows {
            let (name, text, value) = (row.name, shorten(&row.attributes, attributes), &row.value);
            let line = format!("\n  {name:names$}  {text:attributes$}  {value:>values$}");
            out.push_str(line.trim_end());
        }
        if left_over > 0 {
            // Writing to a string cannot fail.
            let _infallible = write!(out, "\n  … and {left_over} more series").is_err();
        }
        out
    }

    fn rows(&mut self, snapshot: &Snapshot) -> Vec<Row> {
        let mut rows = Vec::new();
        for metric in &snapshot.metrics {
            let of = metric.descriptor;
            for point in &metric.points {
                let attributes = point.attributes();
                let amount = match of.kind {
                    Kind::Histogram(_) => snapshot.count(point),
                    Kind::Counter | Kind::ObservableCounter | Kind::UpDownCounter | Kind::Gauge => point.value,
                };
                let text = describe(&attributes);
                let before = self.before.insert((of.name, attributes), amount).unwrap_or(0);
                if amount == 0 && before == 0 {
                    continue;
                }
                let own = matches!(of.group, Group::Exporter | Group::Process);
                rows.push(Row {
                    rank: (own, amount == before, of.position()),
                    name: of.name,
                    attributes: text,
                    value: value(of, &metric.buckets, snapshot, point, before),
                });
            }
        }
        rows
    }
}

fn header(snapshot: &Snapshot, report: &Report, off: &str) -> String {
    let second = snapshot.time_nanos / 1_000_000_000 % 86_400;
    let (hours, minutes, seconds) = (second / 3_600, second / 60 % 60, second % 60);
    let url = report.url.as_deref().unwrap_or_default();
    let fate = match &report.delivery {
        Delivery::Off => off.to_owned(),
        Delivery::Accepted => format!("pushed to {url} ok"),
        Delivery::Partial { rejected, .. } => format!("pushed to {url}, {rejected} points left out"),
        Delivery::Held(pause) => format!("{url} asked for a pause of {} s more", pause.as_secs() + 1),
        Delivery::Failed { error, .. } => format!("push to {url} failed ({})", error.as_str()),
    };
    let (number, points) = (report.number, snapshot.points());
    let size = match report.bytes {
        0 => String::new(),
        bytes => format!(" · {}", amount(bytes as f64, 1e3, BYTES)),
    };
    format!("export #{number} at {hours:02}:{minutes:02}:{seconds:02} UTC · {points} points{size} · {fate}")
}

/// The values that tell series apart, the varying ones first: what is cut off at the end is the same
/// in most rows.
fn describe(attributes: &[Attribute]) -> String {
    let shown = attributes.iter().rev().filter(|attribute| !LEFT_OUT.contains(&attribute.key));
    shown.map(|attribute| attribute.value.to_string()).collect::<Vec<_>>().join(" ")
}

fn shorten(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    text.chars().take(columns.saturating_sub(1)).chain(['…']).collect()
}

fn value(of: &Descriptor, buckets: &Buckets, snapshot: &Snapshot, point: &Point, before: u64) -> String {
    let scale = of.scale.unwrap_or(1.0);
    match of.kind {
        Kind::Histogram(_) => {
            let count = snapshot.count(point);
            let average = with_unit(point.value as f64 * scale / count.max(1) as f64, of.unit);
            // Of a few values, a quantile would say more about the buckets than about the values.
            if count < QUANTILE_COUNT_MIN {
                return format!("n={count} avg={average}");
            }
            let bounds = buckets.upper_bounds(of);
            let p95 = match quantile(&bounds, snapshot.buckets(point), 0.95) {
                Some(value) => with_unit(value, of.unit),
                None => format!(">{}", with_unit(bounds.last().copied().unwrap_or(0.0), of.unit)),
            };
            format!("n={count} avg={average} p95={p95}")
        }
        Kind::Counter | Kind::ObservableCounter => {
            let moved = point.value.saturating_sub(before);
            let total = with_unit(point.value as f64 * scale, of.unit);
            if moved == 0 { total } else { format!("{total} (+{})", with_unit(moved as f64 * scale, of.unit)) }
        }
        Kind::UpDownCounter | Kind::Gauge => with_unit(point.value.cast_signed() as f64 * scale, of.unit),
    }
}

/// The value below which a share `q` of the records lies, straight lines between bounds as
/// Prometheus draws them; `None` beyond the last bound.
fn quantile(bounds: &[f64], buckets: &[u64], q: f64) -> Option<f64> {
    let rank = q * buckets.iter().sum::<u64>() as f64;
    let mut below = 0.0;
    let mut lower = 0.0;
    for (bound, bucket) in bounds.iter().zip(buckets) {
        let within = *bucket as f64;
        if within > 0.0 && below + within >= rank {
            return Some(lower + (bound - lower) * (rank - below) / within);
        }
        below += within;
        lower = *bound;
    }
    None
}

const BYTES: &[&str] = &["B", "KB", "MB", "GB"];
const PARTS_OF_A_SECOND: &[&str] = &["ns", "µs", "ms", "s"];

fn with_unit(value: f64, unit: &str) -> String {
    match unit {
        "By" => amount(value, 1e3, BYTES),
        "s" if value < 60.0 => amount(value * 1e9, 1e3, PARTS_OF_A_SECOND),
        "s" => format!("{value:.0} s"),
        "{USD}" => format!("${value:.6}"),
        _ if value.fract() == 0.0 => format!("{value:.0}"),
        _ => format!("{value:.1}"),
    }
}

/// A number with the largest unit that leaves it at 1 or more.
fn amount(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut unit = units.iter();
    let mut name = unit.next().copied().unwrap_or_default();
    for larger in unit {
        // 999.95 would be shown as 1000.0.
        if value < step - 0.05 {
            break;
        }
        value /= step;
        name = larger;
    }
    if value.fract() == 0.0 { format!("{value:.0} {name}") } else { format!("{value:.1} {name}") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        export::ErrorType,
        telemetry::{Counter, Gauge, Histogram, Registry, catalog as metric, dimensions::TokenType},
    };

    fn report(delivery: Delivery) -> Report {
        Report {
            number: 3,
            points: 57,
            bytes: 9_123,
            attempts: 1,
            elapsed: Duration::ZERO,
            url: (delivery != Delivery::Off).then(|| "http://localhost:9090/api/v1/otlp/v1/metrics".into()),
            delivery,
        }
    }

    #[test]
    fn the_header_says_what_became_of_the_points() {
        let mut snapshot = Snapshot::default();
        snapshot.time_nanos = 1_700_000_005_000_000_000;
        let demo = Table::demo().off;
        let header = |delivery| header(&snapshot, &report(delivery), demo);
        assert_eq!(
            header(Delivery::Off),
            "export #3 at 22:13:25 UTC · 0 points · 9.1 KB · not pushed (no OTEL_EXPORTER_OTLP_* set)"
        );
        assert!(header(Delivery::Accepted).ends_with("pushed to http://localhost:9090/api/v1/otlp/v1/metrics ok"));
        let failed = Delivery::Failed { error: ErrorType::NotFound, case: "path", sentence: String::new() };
        assert!(header(failed).ends_with("failed (404)"));
        assert!(header(Delivery::Held(Duration::from_millis(1_500))).ends_with("2 s more"));
        let partial = Delivery::Partial { rejected: 2, case: "rejected", sentence: String::new() };
        assert!(header(partial).ends_with(", 2 points left out"));
    }

    #[test]
    fn rows_are_aligned_and_only_what_moved_or_is_not_zero() {
        let registry = Registry::new();
        let fixed = [Attribute::text("tollgate.key", "demo"), Attribute::text("gen_ai.request.model", "echo")];
        let tokens: Counter<TokenType> = registry.counter(&metric::TOKENS, &fixed);
        TokenType::ALL.iter().for_each(|of| tokens.create(*of));
        tokens.add(TokenType::Input, 12);
        let overhead: Histogram = registry.histogram(&metric::OVERHEAD, &[]);
        (0..20).for_each(|_| overhead.record((), 20_000));
        let uptime: Gauge = registry.gauge(&metric::PROCESS_UPTIME, &[]);
        uptime.set((), 61_000_000_000);

        let mut table = Table::demo();
        let rows = |text: String| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
        let first = rows(table.render(&registry.snapshot(), &report(Delivery::Off)));
        assert_eq!(
            first,
            [
                "  tollgate.tokens             input echo demo                    12 (+12)",
                "  tollgate.overhead.duration                   n=20 avg=20 µs p95=24.2 µs",
                "  process.uptime                                                     61 s",
            ]
        );
        tokens.add(TokenType::Output, 5);
        let second = rows(table.render(&registry.snapshot(), &report(Delivery::Off)));
        assert!(second[0].ends_with(" 5 (+5)"), "what moved is first: {second:?}");
        assert!(second[1].ends_with(" 12"), "{second:?}");
        uptime.set((), 63_000_000_000);
        let third = table.render(&registry.snapshot(), &report(Delivery::Off));
        assert!(third.lines().count() == 1 && third.ends_with(" · nothing new"), "{third}");
    }

    #[test]
    fn a_table_is_never_wider_or_longer_than_promised() {
        let registry = Registry::new();
        let handles = (0..40).map(|model| {
            let fixed = [Attribute::owned("gen_ai.request.model", format!("a-model-with-a-long-name/{model:090}"))];
            let first_chunk: Histogram = registry.histogram(&metric::GEN_AI_TIME_PER_OUTPUT_CHUNK, &fixed);
            first_chunk.record((), u64::MAX / 100);
            first_chunk
        });
        let _held: Vec<_> = handles.collect();
        let text = Table::console().render(&registry.snapshot(), &report(Delivery::Off));
        assert!(text.lines().next().is_some_and(|header| header.ends_with(" · console")), "{text}");
        assert_eq!(text.lines().count(), 22);
        assert!(text.ends_with("… and 20 more series"));
        for line in text.lines().skip(1) {
            assert!(line.chars().count() <= COLUMNS, "{line}");
        }
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(with_unit(0.0, "s"), "0 ns");
        assert_eq!(with_unit(0.001_5, "s"), "1.5 ms");
        assert_eq!(with_unit(0.999_96, "s"), "1.0 s");
        assert_eq!(with_unit(3_600.4, "s"), "3600 s");
        assert_eq!(with_unit(5_120_000.0, "By"), "5.1 MB");
        assert_eq!(with_unit(999.0, "By"), "999 B");
        assert_eq!(with_unit(-3.0, "{request}"), "-3");
        assert_eq!(with_unit(2.25, "{token}"), "2.2");
        assert_eq!(with_unit(0.000_225, "{USD}"), "$0.000225");
    }

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let bounds = [1.0, 2.0, 4.0];
        assert_eq!(quantile(&bounds, &[0, 10, 0, 0], 0.5), Some(1.5));
        assert_eq!(quantile(&bounds, &[10, 0, 10, 0], 0.95), Some(3.8));
        assert_eq!(quantile(&bounds, &[1, 0, 0, 9], 0.95), None);
    }
}
