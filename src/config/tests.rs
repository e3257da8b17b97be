//! Configurations as operators write them, right and wrong, and the environment's rules.

mod environments;
mod files;
mod fuzz;

use std::{path::Path, time::Duration};

use proptest::prelude::*;

use super::{Config, Destination, Environment, Loaded, Protocol, ProviderKind};
use crate::{api::cost::Price, telemetry::Temporality};

const GOOD: &str = "[providers.p]\nbase_url = \"http://h/v1\"\n[models.m]\ndeployments = [{ provider = \"p\" }]\n[[keys]]\nname = \"k\"\nkey = \"tg-0123456789abcdef-canary\"\n";

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Loaded, String> {
    let environment = Environment::of(environment.iter().copied());
    Config::parse(Path::new("t.toml"), text, &environment).map_err(|error| error.to_string())
}

/// The first line of every problem.
fn problems(text: &str) -> Vec<String> {
    match load(text, &[]) {
        Ok(_) => Vec::new(),
        Err(text) => text.lines().filter(|line| line.starts_with("t.toml:")).map(str::to_owned).collect(),
    }
}

#[test]
fn every_wrong_file_names_its_place_and_the_way_out() {
    assert!(files::CASES.len() >= 90, "{}", files::CASES.len());
    let mut wrong = Vec::new();
    for (text, expected) in files::CASES {
        let found = problems(&format!("{text}{GOOD}"));
        if found.first().map(String::as_str) != Some(expected) {
            wrong.push(format!("{text}\n  expected {expected}\n  found    {found:?}"));
        }
        assert!(!found.concat().contains("canary"), "a secret is shown: {found:?}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn several_problems_are_shown_at_once_with_their_lines() {
    let text = GOOD.replace("\"http://h/v1\"", "\"h\"").replace("provider = \"p\"", "provider = \"x\"");
    assert_eq!(
        load(&text, &[]).unwrap_err(),
        "t.toml:2:12: \"h\" is not a URL: it has to begin with http:// or https://\n  |\n2 | base_url = \"h\"\n  |            ^^^\n\n\
         t.toml:4:29: provider \"x\" is not configured: expected \"p\"; did you mean `p`?\n  |\n4 | deployments = [{ provider = \"x\" }]\n  |                             ^^^"
            .replace("; did you mean `p`?", "")
    );
}

#[test]
fn a_wrong_type_hides_no_other_problem() {
    let text = format!(
        "{GOOD}models = 5\nnmae = \"x\"\n[server]\nthreads = \"2\"\nlissten = \"x\"\nh2c = 1\n[[telemetry.export]]\n[reload]\ninterval = 1\n"
    );
    let found: Vec<String> =
        problems(&text).into_iter().map(|problem| problem.lines().next().unwrap().to_owned()).collect();
    let line = GOOD.lines().count();
    let expected = [
        format!("t.toml:{}:10: expected a list, not a whole number", line + 1),
        format!(
            "t.toml:{}:1: unknown key `nmae`, expected one of `name`, `key`, `sha256`, `models`, `comment_interval`; did you mean `name`?",
            line + 2
        ),
        format!("t.toml:{}:11: expected a whole number, not a string", line + 4),
        format!("t.toml:{}:1: unknown key `lissten`, expected one of ", line + 5),
        format!("t.toml:{}:7: expected true or false, not a whole number", line + 6),
        format!("t.toml:{}:1: missing field `endpoint`", line + 7),
        format!("t.toml:{}:1: missing field `name`", line + 7),
        format!("t.toml:{}:12: expected a string, not a whole number", line + 9),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(&expected), "{found}\n{expected}");
    }
}

#[test]
fn an_empty_file_says_what_is_missing() {
    let found = problems("");
    assert_eq!(found.len(), 2);
    assert!(found[0].contains("no client keys") && found[1].contains("no models"), "{found:?}");
}

#[test]
fn a_good_file_is_what_it_says() {
    let text = format!(
        "[server]\nlisten = \"[::1]:9\"\nthreads = 3\nbody_bytes_max = 1024\nhead_timeout = \"1m\"\n\
         [providers.e]\nkind = \"echo\"\ndelay = \"5ms\"\n{GOOD}models = [\"m\"]\n"
    );
    let Loaded { config, warnings, .. } = load(&text, &[]).unwrap();
    assert_eq!(config.server.listen, [super::Listen::Tcp("[::1]:9".parse().unwrap())]);
    assert_eq!((config.server.threads, config.server.body_bytes_max), (3, 1024));
    assert_eq!(
        (config.server.head_timeout, config.server.body_timeout),
        (Duration::from_secs(60), Duration::from_secs(15))
    );
    let echo = &config.providers[0];
    assert_eq!((echo.kind, echo.echo_delay), (ProviderKind::Echo, Duration::from_millis(5)));
    assert_eq!(config.models[0].deployments[0].model, "m");
    assert_eq!(config.models[0].deployments[0].provider, 1);
    assert_eq!(config.keys[0].models, Some(vec![0]));
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn prices_are_nano_usd_per_million_tokens() {
    let price = |written: &str| {
        let text = GOOD.replace("provider = \"p\"", &format!("provider = \"p\", price = {{ {written} }}"));
        let loaded = load(&text, &[]).unwrap();
        (loaded.config.models[0].deployments[0].price.unwrap(), loaded.warnings)
    };
    let of = |input, output, cache_read, cache_write| Price { input, output, cache_read, cache_write };
    let rows = [
        ("input = 0.15, output = 0.60", of(150_000_000, 600_000_000, 150_000_000, 150_000_000)),
        (
            "input = 3, output = 15, cache_read = 0.3, cache_write = 3.75",
            of(3_000_000_000, 15_000_000_000, 300_000_000, 3_750_000_000),
        ),
        ("input = 0.15, output = 0.6, cache_read = 0.075", of(150_000_000, 600_000_000, 75_000_000, 150_000_000)),
        ("input = 0, output = 0.0", of(0, 0, 0, 0)),
        ("input = 10000, output = 0.001", of(10_000_000_000_000, 1_000_000, 10_000_000_000_000, 10_000_000_000_000)),
    ];
    for (written, expected) in rows {
        assert_eq!(price(written), (expected, Vec::new()), "{written}");
    }
    // LiteLLM has prices per token.
    assert_eq!(
        price("input = 1.5e-07, output = 0.6").1,
        ["models.m: prices are in USD per million tokens: 1.5e-7 looks like one per token"]
    );
    assert_eq!(load(GOOD, &[]).unwrap().config.models[0].deployments[0].price, None);
}

#[test]
fn secrets_are_resolved_and_never_shown() {
    let text = GOOD.replace("base_url", "api_key = \"${KEY:-fallback}-x\"\nbase_url");
    for (environment, expected) in
        [(&[("KEY", "canary")][..], "canary-x"), (&[("KEY", "")], "fallback-x"), (&[], "fallback-x")]
    {
        let loaded = load(&text, environment).unwrap();
        assert_eq!(loaded.config.providers[0].api_key.as_ref().unwrap().expose(), expected);
        assert!(!format!("{loaded:?}").contains("canary"));
        // A provider key to another machine without TLS is worth a warning.
        assert_eq!(loaded.warnings, ["providers.p: the provider key is sent without TLS to h"]);
    }
    let literal = GOOD.replace("base_url", "api_key = \"canary\"\nbase_url").replace("http://h", "https://h");
    let loaded = load(&literal, &[]).unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    assert!(
        loaded.warnings[0].contains("providers.p.api_key stands in the file") && !loaded.warnings[0].contains("canary")
    );
}

#[test]
fn the_environment_follows_the_specification() {
    assert!(environments::ROWS.len() >= 150, "{}", environments::ROWS.len());
    for (environment, what, expected, warning) in environments::ROWS {
        check_row(environment, what, expected, warning);
    }
}

fn check_row(environment: &[(&str, &str)], what: &str, expected: &str, warning: &str) {
    let loaded = match load(GOOD, environment) {
        Ok(loaded) => loaded,
        Err(error) => {
            assert!(what == "error" && error.contains(expected), "{environment:?}: {error}");
            return;
        }
    };
    let telemetry = &loaded.config.telemetry;
    let setting = loaded.settings.iter().find(|setting| setting.name == what).map(|setting| setting.value.clone());
    let resource = telemetry.resource.iter().find(|(key, _)| key == what).map(|(_, value)| value.clone());
    let headers = || {
        telemetry
            .destinations
            .iter()
            .flat_map(|destination| &destination.headers)
            .map(|(name, value)| format!("{name}={}", value.expose()))
            .collect::<Vec<_>>()
    };
    let found = match what {
        "target" => {
            telemetry.destinations.first().map(|destination| destination.endpoint.target.clone()).unwrap_or_default()
        }
        "header values" => headers().join(" "),
        _ => setting.or(resource).unwrap_or_default(),
    };
    assert_eq!(found, expected, "{environment:?}");
    let warned = loaded.warnings.join("\n");
    assert!(warned.contains(warning), "{environment:?}: {warned}");
    assert_eq!(warning.is_empty(), warned.is_empty(), "{environment:?}: {warned}");
    // Header values are secrets: nowhere but in the request. So are the user and password of a URL.
    let shown = format!("{:?} {:?}", loaded.settings, loaded.warnings);
    let is_short = |header: &str| header.split_once('=').is_some_and(|(_, value)| value.len() < 4);
    let hidden = headers().iter().all(|header| is_short(header) || !shown.contains(header.as_str()));
    assert!(hidden && !shown.contains("canary"), "{shown}");
}

#[test]
fn the_environment_wins_over_the_file_and_says_so() {
    let text = format!("{GOOD}[telemetry]\nendpoint = \"http://file/x\"\ninterval = \"5s\"\nservice_name = \"file\"\n");
    let loaded = load(&text, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://env"), ("OTEL_SERVICE_NAME", "env")]).unwrap();
    let setting = |name| loaded.settings.iter().find(|setting| setting.name == name).unwrap();
    assert_eq!(
        (setting("endpoint").value.as_str(), setting("endpoint").source.as_str()),
        ("http://env:80/v1/metrics", "OTEL_EXPORTER_OTLP_ENDPOINT")
    );
    assert_eq!((setting("interval").value.as_str(), setting("interval").source.as_str()), ("5s", "telemetry.interval"));
    assert!(loaded.config.telemetry.resource.contains(&("service.name".into(), "env".into())));
}

#[test]
fn every_process_has_an_instance_id_of_its_own() {
    let id = |loaded: Loaded| {
        loaded.config.telemetry.resource.iter().find(|(key, _)| key == "service.instance.id").unwrap().1.clone()
    };
    let (one, other) = (id(load(GOOD, &[]).unwrap()), id(load(GOOD, &[]).unwrap()));
    assert_ne!(one, other);
    assert_eq!((one.len(), one.get(14..15)), (36, Some("4")));
    assert!("89ab".contains(one.get(19..20).unwrap()));
}

const EXAMPLE: &str = include_str!("../../tollgate.example.toml");
const SECRETS: &[(&str, &str)] = &[
    ("OPENROUTER_API_KEY", "sk-1"),
    ("OPENAI_API_KEY", "sk-1"),
    ("TOLLGATE_KEY", "tg-0123456789abcdefghij"),
    ("OTLP_TOKEN", "t"),
    ("TOLLGATE_ADMIN_TOKEN", "tg-0123456789abcdefghij"),
];

#[test]
fn the_example_and_the_starter_load_without_a_warning() {
    for text in [EXAMPLE, STARTER] {
        assert_eq!(load(text, SECRETS).unwrap().warnings, Vec::<String>::new());
    }
}

const STARTER: &str = include_str!("../cli/starter.toml");

#[test]
fn the_example_shows_every_option_and_its_default() {
    // Every option that a table knows, from the message about one it does not know.
    let tables = [
        ("[server]\nzz = 1\n", "[server"),
        ("[server]\ntls = { zz = 1 }\n", "[server]"),
        ("[server.http2]\nzz = 1\n", "[server.http2]"),
        ("[routing]\nzz = 1\n", "[routing]"),
        ("[providers.x]\nzz = 1\n", "[providers."),
        ("[models.x]\nzz = 1\n", "[models."),
        ("[models.x]\ndeployments = [{ zz = 1 }]\n", "[models."),
        ("[models.x]\ndeployments = [{ price = { zz = 1 } }]\n", "[models."),
        ("[[keys]]\nzz = 1\n", "[[keys]]"),
        ("[telemetry]\nzz = 1\n", "[telemetry]"),
        ("[[telemetry.export]]\nzz = 1\n", "[telemetry]"),
        ("[admin]\nzz = 1\n", "[admin]"),
    ];
    let mut options = 0;
    for (unknown, table) in tables {
        let problem = problems(unknown).into_iter().find(|problem| problem.contains("unknown key")).unwrap();
        let known = problem.split("expected").nth(1).unwrap().split(';').next().unwrap();
        let sections: Vec<&str> =
            EXAMPLE.split("\n[").filter(|section| format!("[{section}").starts_with(table)).collect();
        assert!(!sections.is_empty(), "{table}");
        for option in known.split('`').skip(1).step_by(2) {
            options += 1;
            let spelled = [
                format!("\n{option} = "),
                format!("\n# {option} = "),
                format!("{{ {option} = "),
                format!(", {option} = "),
                format!("\n#   {option} = "),
                format!("\n# [[telemetry.{option}]]\n"),
                format!("server.{option}]\n"),
            ];
            let shown = sections.iter().any(|section| spelled.iter().any(|spelled| section.contains(spelled)));
            assert!(shown, "tollgate.example.toml does not show {option} in {table}");
        }
    }
    assert!(options >= 90, "found only {options} options");
    // These have no default but what the machine has, or none at all.
    let examples = ["trusted_proxies", "tls", "max_connections", "max_unauthenticated", "memory_limit", "body_memory"];
    // A line that shows a default does not change anything when it is brought to life.
    let alive: String = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if examples.iter().any(|option| rest.starts_with(&format!("{option} = "))) => String::new(),
            Some(rest)
                if rest.contains(" = ")
                    && !rest.starts_with([' ', '{'])
                    && !rest.starts_with("sha256")
                    && rest
                        .split(' ')
                        .next()
                        .unwrap()
                        .chars()
                        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') =>
            {
                format!("{rest}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    let (given, spelled) = (load(EXAMPLE, SECRETS).unwrap().config, load(&alive, SECRETS).unwrap().config);
    assert_eq!(format!("{:?}", given.server), format!("{:?}", spelled.server));
    assert_eq!(format!("{:?}", given.providers), format!("{:?}", spelled.providers));
    assert_eq!(format!("{:?}", given.routing), format!("{:?}", spelled.routing));
    assert_eq!(format!("{:?}", given.models), format!("{:?}", spelled.models));
    let limits = |config: &Config| {
        let of = |to: &Destination| (to.interval, to.timeout, to.max_request_bytes, to.max_response_bytes);
        config.telemetry.destinations.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(limits(&given), limits(&spelled));
}

#[test]
fn each_receiver_stands_alone() {
    let text = format!(
        "{GOOD}[telemetry]\nendpoint = \"http://own/x\"\ninterval = \"5s\"\nheaders = {{ x-a = \"canary\" }}\ncompression = \"gzip\"\n\
         [[telemetry.export]]\nname = \"g\"\nendpoint = \"http://g:4317\"\nprotocol = \"grpc\"\ntemporality = \"delta\"\n\
         [[telemetry.export]]\nname = \"h\"\nendpoint = \"http://h/y\"\ninterval = \"7s\"\nclient_certificate = \"c.pem\"\nclient_key = \"k.pem\"\n"
    );
    let environment = [
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-b=canary"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1000"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "9000"),
    ];
    let loaded = load(&text, &environment).unwrap();
    let [own, grpc, third] = loaded.config.telemetry.destinations.as_slice() else { panic!("{loaded:?}") };
    let names = |destination: &Destination| {
        destination.headers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!((own.name.as_str(), names(own), own.gzip), ("otlp", "x-b".to_owned(), false));
    assert_eq!((own.timeout, own.interval), (Some(Duration::from_secs(1)), Duration::from_secs(5)));
    assert_eq!((grpc.name.as_str(), names(grpc)), ("g", String::new()), "nobody else's credentials");
    assert_eq!((grpc.protocol, grpc.temporality), (Protocol::Grpc, Temporality::Delta));
    assert_eq!((grpc.timeout, grpc.interval), (Some(Duration::from_secs(10)), Duration::from_secs(5)));
    assert_eq!((grpc.endpoint.port, grpc.endpoint.target.as_str()), (4317, "/"));
    assert_eq!(third.interval, Duration::from_secs(7));
    assert_eq!(third.client_certificate, Some(("c.pem".into(), "k.pem".into())));
    for destination in [own, grpc, third] {
        assert_eq!(destination.export_timeout, Some(Duration::from_secs(9)));
    }
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn without_an_endpoint_of_its_own_telemetry_is_no_further_receiver() {
    let text = format!("{GOOD}[[telemetry.export]]\nname = \"g\"\nendpoint = \"http://g/x\"\n");
    let names = |environment: &[(&str, &str)]| {
        let destinations = load(&text, environment).unwrap().config.telemetry.destinations;
        destinations.into_iter().map(|destination| destination.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&[]), ["g"]);
    assert_eq!(names(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://e")]), ["otlp", "g"]);
    assert_eq!(names(&[("OTEL_METRICS_EXPORTER", "prometheus")]), Vec::<String>::new());
    let twice = load(&text, &[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://g/x")]).unwrap();
    assert_eq!(twice.warnings, ["g: http://g:80/x is pushed to twice: it will refuse points it has already"]);
}

const VARIABLES: &[&str] = &[
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_EXPORTER_OTLP_COMPRESSION",
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
    "OTEL_METRICS_EXPORTER",
    "OTEL_METRIC_EXPORT_INTERVAL",
    "OTEL_SDK_DISABLED",
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_EXPORTER_PROMETHEUS_PORT",
    "OTEL_ENDPOINT",
];

proptest! {
    /// Whatever stands in the environment, the gateway starts, and says at most a line about it.
    #[test]
    fn no_environment_stops_the_gateway(values in proptest::collection::vec("\\PC{0,40}|[a-z0-9=,%:/;. -]{0,60}", VARIABLES.len())) {
        let environment: Vec<(&str, &str)> =
            VARIABLES.iter().copied().zip(values.iter().map(String::as_str)).collect();
        let loaded = load(GOOD, &environment).unwrap();
        prop_assert!(loaded.warnings.iter().all(|warning| !warning.contains('\n')));
        for destination in &loaded.config.telemetry.destinations {
            prop_assert!(destination.endpoint.target.starts_with('/'));
            prop_assert!(!destination.interval.is_zero());
        }
    }
}

#[test]
fn a_file_has_a_size_that_the_environment_can_change() {
    let path = std::env::temp_dir().join(format!("tollgate-size-{}.toml", std::process::id()));
    let load = |size: usize, most: &str| {
        std::fs::write(&path, format!("{GOOD}{}", "#".repeat(size - GOOD.len()))).unwrap();
        let environment = Environment::of([("TOLLGATE_MAX_CONFIG_BYTES", most)]);
        Config::load(Some(&path), &environment).map(drop).map_err(|error| error.to_string())
    };
    for (size, most, expected) in [
        (4 << 20, "", ""),
        ((4 << 20) + 1, "", "is larger than 4194304 bytes: is it a configuration?"),
        ((4 << 20) + 1, "5MiB", ""),
        (1025, "1KiB", "is larger than 1024 bytes"),
        (1024, "much", "TOLLGATE_MAX_CONFIG_BYTES: \"much\" is not a size"),
    ] {
        let found = load(size, most);
        match expected {
            "" => assert_eq!(found, Ok(()), "{size} {most}"),
            _ => assert!(found.as_ref().is_err_and(|error| error.contains(expected)), "{size} {most}: {found:?}"),
        }
    }
    std::fs::remove_file(&path).unwrap();
}
