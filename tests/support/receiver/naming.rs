//! Names as Prometheus stores them: the translation strategy `UnderscoreEscapingWithSuffixes`, its
//! default in 3.5 and 3.14.

/// What the translation needs to know of a metric's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    UpDownCounter,
    Gauge,
    Histogram,
}

/// The family name of a metric, or `None` if nothing is left of it.
pub(crate) fn metric_name(name: &str, unit: &str, kind: Kind) -> Option<String> {
    let mut tokens: Vec<String> = name
        .split(|character: char| !(character.is_ascii_alphanumeric() || character == ':'))
        .filter(|token| !token.is_empty())
        .map(str::to_owned)
        .collect();
    add_unit(&mut tokens, unit);
    let mut move_to_end = |token: &str| {
        tokens.retain(|other| other != token);
        tokens.push(token.to_owned());
    };
    match kind {
        Kind::Counter => move_to_end("total"),
        Kind::Gauge if unit == "1" => move_to_end("ratio"),
        Kind::UpDownCounter | Kind::Gauge | Kind::Histogram => {}
    }
    let joined = tokens.join("_");
    match joined.chars().next() {
        None => None,
        Some(first) if first.is_ascii_digit() => Some(format!("_{joined}")),
        Some(_) => Some(joined),
    }
}

fn add_unit(tokens: &mut Vec<String>, unit: &str) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let word = |part: &str, map: fn(&str) -> Option<&'static str>| {
        let part = part.trim();
        // Annotations in braces are comments.
        if part.is_empty() || part.contains(['{', '}']) {
            return String::new();
        }
        clean(map(part).unwrap_or(part))
    };
    let (main, per) = (word(main, main_unit), word(per, per_unit));
    if !main.is_empty() && !tokens.contains(&main) {
        tokens.push(main);
    }
    if !per.is_empty() && !tokens.contains(&per) {
        tokens.extend(["per".to_owned(), per]);
    }
}

fn clean(unit: &str) -> String {
    let replaced: String =
        unit.chars().map(|character| if character.is_ascii_alphanumeric() { character } else { '_' }).collect();
    replaced.split('_').filter(|token| !token.is_empty()).collect::<Vec<_>>().join("_")
}

fn main_unit(unit: &str) -> Option<&'static str> {
    Some(match unit {
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        "TiBy" => "tibibytes",
        "KBy" => "kilobytes",
        "MBy" => "megabytes",
        "GBy" => "gigabytes",
        "TBy" => "terabytes",
        "m" => "meters",
        "V" => "volts",
        "A" => "amperes",
        "J" => "joules",
        "W" => "watts",
        "g" => "grams",
        "Cel" => "celsius",
        "Hz" => "hertz",
        "1" => "",
        "%" => "percent",
        _ => return None,
    })
}

fn per_unit(unit: &str) -> Option<&'static str> {
    Some(match unit {
        "s" => "second",
        "m" => "minute",
        "h" => "hour",
        "d" => "day",
        "w" => "week",
        "mo" => "month",
        "y" => "year",
        _ => return None,
    })
}

/// A label name made of an attribute key. The key must not be empty.
pub(crate) fn label_name(key: &str) -> String {
    let name: String =
        key.chars().map(|character| if character.is_ascii_alphanumeric() { character } else { '_' }).collect();
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        return format!("key_{name}");
    }
    if name.starts_with('_') && !name.starts_with("__") {
        return format!("key{name}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_names_are_those_that_prometheus_was_seen_to_store() {
        use Kind::{Counter, Gauge, Histogram, UpDownCounter};
        let table = [
            ("gen_ai.client.token.usage", "{token}", Histogram, "gen_ai_client_token_usage"),
            ("gen_ai.client.operation.duration", "s", Histogram, "gen_ai_client_operation_duration_seconds"),
            ("gen_ai.server.time_to_first_token", "s", Histogram, "gen_ai_server_time_to_first_token_seconds"),
            ("http.server.request.duration", "s", Histogram, "http_server_request_duration_seconds"),
            ("http.server.request.body.size", "By", Histogram, "http_server_request_body_size_bytes"),
            ("http.server.active_requests", "{request}", UpDownCounter, "http_server_active_requests"),
            ("gw.requests", "1", Counter, "gw_requests_total"),
            ("gw.requests", "{request}", Counter, "gw_requests_total"),
            ("gw.requests", "", Counter, "gw_requests_total"),
            ("gw.requests.total", "{request}", Counter, "gw_requests_total"),
            ("gw.request.count", "", Counter, "gw_request_count_total"),
            ("gw.tokens", "{token}", Counter, "gw_tokens_total"),
            ("gw.tokens_total", "", Counter, "gw_tokens_total"),
            ("gw.cost.usd", "{USD}", Counter, "gw_cost_usd_total"),
            ("gw.cost", "USD", Counter, "gw_cost_USD_total"),
            ("gw.cost.total", "usd", Counter, "gw_cost_usd_total"),
            ("x", "1", Gauge, "x_ratio"),
            ("x", "1", UpDownCounter, "x"),
            ("gw.inflight", "{request}", Gauge, "gw_inflight"),
            ("gw.request.duration.seconds", "s", Gauge, "gw_request_duration_seconds"),
            ("gw.rate", "By/s", UpDownCounter, "gw_rate_bytes_per_second"),
            ("gw.rate", "{request}/s", UpDownCounter, "gw_rate_per_second"),
            ("gw.wait", "ms", Counter, "gw_wait_milliseconds_total"),
            ("gw.heat", "Cel", Gauge, "gw_heat_celsius"),
            ("process.cpu.time", "s", Counter, "process_cpu_time_seconds_total"),
            ("process.memory.usage", "By", UpDownCounter, "process_memory_usage_bytes"),
            (
                "process.unix.file_descriptor.count",
                "{file_descriptor}",
                UpDownCounter,
                "process_unix_file_descriptor_count",
            ),
            ("process.uptime", "s", Gauge, "process_uptime_seconds"),
            ("process.cpu.utilization", "1", Gauge, "process_cpu_utilization_ratio"),
            (
                "otel.sdk.exporter.metric_data_point.exported",
                "{data_point}",
                Counter,
                "otel_sdk_exporter_metric_data_point_exported_total",
            ),
            ("otel.sdk.exporter.operation.duration", "s", Histogram, "otel_sdk_exporter_operation_duration_seconds"),
            ("9lives", "", Gauge, "_9lives"),
        ];
        for (name, unit, kind, expected) in table {
            assert_eq!(metric_name(name, unit, kind).as_deref(), Some(expected), "{name} {unit} {kind:?}");
        }
        assert_eq!(metric_name("π", "", Gauge), None);
        assert_eq!(metric_name("π", "", Counter).as_deref(), Some("total"), "the suffix alone is a name");
    }

    #[test]
    fn label_names_are_those_that_prometheus_was_seen_to_store() {
        let table = [
            ("http.route", "http_route"),
            ("a-b", "a_b"),
            ("_x", "key_x"),
            ("9dig", "key_9dig"),
            ("__x", "__x"),
            ("π", "key_"),
            ("---", "___"),
        ];
        for (key, expected) in table {
            assert_eq!(label_name(key), expected);
        }
    }
}
