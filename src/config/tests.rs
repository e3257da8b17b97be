//! Configurations as operators write them, right and wrong, and the environment's rules.

use std::{path::Path, time::Duration};

use super::{Config, Environment, Loaded, ProviderKind};

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
    // What is put in front of (or in place of) a good file, and the problem it makes.
    #[rustfmt::skip]
    let cases: &[(&str, &str)] = &[
        ("[server\n", "t.toml:1:8: unclosed table, expected `]`"),
        ("[server]\nlisten = 127.0.0.1\n", "t.toml:2:15: invalid float, expected nothing"),
        ("[sever]\n", "t.toml:1:2: unknown key `sever`, expected one of `server`, `providers`, `models`, `keys`, `telemetry`; did you mean `server`?"),
        ("[server]\nthread = 2\n", "t.toml:2:1: unknown key `thread`, expected one of `listen`, `threads`, `body_bytes_max`, `body_timeout`, `head_timeout`, `drain_timeout`; did you mean `threads`?"),
        ("[server]\nlisten = \"nowhere\"\n", "t.toml:2:10: \"nowhere\" is not an address and port, such as \"127.0.0.1:4000\" or \"[::]:4000\""),
        ("[server]\nlisten = \":4000\"\n", "t.toml:2:10: \":4000\" is not an address and port, such as \"127.0.0.1:4000\" or \"[::]:4000\""),
        ("[server]\nlisten = 4000\n", "t.toml:2:10: invalid type: integer `4000`, expected a string"),
        ("[server]\nthreads = -1\n", "t.toml:2:11: threads has to be from 0 (one per core) to 256, not -1"),
        ("[server]\nthreads = 1000\n", "t.toml:2:11: threads has to be from 0 (one per core) to 256, not 1000"),
        ("[server]\nthreads = 1.5\n", "t.toml:2:11: invalid type: floating point `1.5`, expected i64"),
        ("[server]\nbody_timeout = 15\n", "t.toml:2:16: invalid type: integer `15`, expected a string"),
        ("[server]\nbody_timeout = \"15\"\n", "t.toml:2:16: \"15\" is not a duration: write a whole number and a unit, such as \"15s\", \"500ms\", \"2m\" or \"1h\""),
        ("[server]\nbody_timeout = \"0s\"\n", "t.toml:2:16: a duration of zero makes no sense here"),
        ("[server]\nbody_timeout = \"800h\"\n", "t.toml:2:16: \"800h\" is longer than 30 days"),
        ("[server]\nbody_bytes_max = \"32 megs\"\n", "t.toml:2:18: \"32 megs\" is not a size: write bytes as a whole number, or with a unit, such as \"32MiB\" or \"64KiB\""),
        ("[server]\nbody_bytes_max = 0\n", "t.toml:2:18: a size of zero makes no sense here"),
        ("[server]\nbody_bytes_max = -5\n", "t.toml:2:18: expected a size such as \"32MiB\", or bytes as a whole number"),
        ("[server]\nlisten = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"\n", "t.toml:3:1: duplicate key"),
        ("[providers.q]\n", "t.toml:1:12: provider \"q\" has no base_url: add one, such as base_url = \"https://api.openai.com/v1\""),
        ("[providers.q]\nbase_url = \"api.openai.com\"\n", "t.toml:2:12: \"api.openai.com\" is not a URL: it has to begin with http:// or https://"),
        ("[providers.q]\nbase_url = \"ftp://h\"\n", "t.toml:2:12: \"ftp://h\" is not a URL: it has to begin with http:// or https://"),
        ("[providers.q]\nbase_url = \"http://u:canary@h\"\n", "t.toml:2:12: a URL must not carry a user or password: use api_key or a header"),
        ("[providers.q]\nbase_url = \"http://h?a=b\"\n", "t.toml:2:12: \"http://h?a=b\" has a query; a base URL ends with its path"),
        ("[providers.q]\nbase_url = \"http://h:99999\"\n", "t.toml:2:12: \"http://h:99999\": the port has to be a number from 1 to 65535"),
        ("[providers.q]\nkind = \"anthropic\"\nbase_url = \"http://h\"\n", "t.toml:2:8: kind \"anthropic\" is not supported yet; use \"openai\" for an OpenAI-compatible endpoint"),
        ("[providers.q]\nkind = \"open-ai\"\nbase_url = \"http://h\"\n", "t.toml:2:8: kind \"open-ai\" is not known: expected \"openai\" or \"echo\""),
        ("[providers.q]\nkind = \"echo\"\nbase_url = \"http://h\"\n", "t.toml:3:12: a provider of kind \"echo\" is built in: it takes no base_url"),
        ("[providers.q]\nkind = \"echo\"\napi_key = \"x\"\n", "t.toml:3:11: a provider of kind \"echo\" is built in: it takes no api_key"),
        ("[providers.q]\nbase_url = \"http://h\"\ndelay = \"1s\"\n", "t.toml:3:9: delay is for providers of kind \"echo\" only"),
        ("[providers.q]\nbase_url = \"http://h\"\napi_key = \"${NOPE}\"\n", "t.toml:3:11: the environment variable NOPE is not set: export it, or put it into the unit's EnvironmentFile"),
        ("[providers.q]\nbase_url = \"http://h\"\napi_key = \"os.environ/NOPE\"\n", "t.toml:3:11: the environment variable NOPE is not set: export it, or put it into the unit's EnvironmentFile"),
        ("[providers.q]\nbase_url = \"http://h\"\napi_key = \"${NOPE\"\n", "t.toml:3:11: `${` is not closed with `}`"),
        ("[providers.q]\nbase_url = \"http://h\"\napi_key = \"\"\n", "t.toml:3:11: the secret is empty"),
        ("[providers.q]\nbase_url = \"http://h\"\napi_key = \"can\\nary\"\n", "t.toml:3:11: the secret has characters that no header can carry (control or non-ASCII)"),
        ("[providers.q]\nbase_url = \"http://h\"\napi_key = { file = \"/nonexistent\" }\n", "t.toml:3:11: cannot read /nonexistent: No such file or directory (os error 2)"),
        ("[providers.q]\nbase_url = \"http://h\"\napi_key = { credential = \"x\" }\n", "t.toml:3:11: no systemd credentials: $CREDENTIALS_DIRECTORY is not set (LoadCredential= in the unit sets it)"),
        ("[providers.q]\nbase_url = \"http://h\"\napi_key = 7\n", "t.toml:3:11: expected a string such as \"${NAME}\", or { file = \"…\" }, or { credential = \"…\" }"),
        ("[providers.\"q q\"]\nbase_url = \"http://h\"\n", "t.toml:1:12: ' ' cannot stand in the name of a provider: use letters, digits and . _ : / @ + -"),
        ("[models.n]\ndeployments = []\n", "t.toml:2:15: deployments is empty: name at least one, such as { provider = \"openai\" }"),
        ("[models.n]\n", "t.toml:1:1: missing field `deployments`"),
        ("[models.n]\ndeployments = [{ provider = \"pp\" }]\n", "t.toml:2:29: provider \"pp\" is not configured: expected \"p\""),
        ("[models.n]\ndeployments = [{ model = \"x\" }]\n", "t.toml:2:16: missing field `provider`"),
        ("[models.\"π\"]\ndeployments = [{ provider = \"p\" }]\n", "t.toml:1:9: 'π' cannot stand in the name of a model: use letters, digits and . _ : / @ + -"),
        ("[[keys]]\nname = \"j\"\n", "t.toml:2:8: a key needs `key` or `sha256`; `tollgate key new` prints both"),
        ("[[keys]]\nname = \"j\"\nsha256 = \"abc\"\n", "t.toml:3:10: sha256 has to be 64 hexadecimal digits; `tollgate key new` prints them"),
        ("[[keys]]\nname = \"j\"\nkey = \"0123456789canary\"\nsha256 = \"abc\"\n", "t.toml:4:10: a key has either `key` or `sha256`, not both"),
        ("[[keys]]\nname = \"j\"\nkey = \"canary\"\n", "t.toml:3:7: the client key has 6 bytes; it needs at least 8; `tollgate key new` makes one"),
        ("[[keys]]\nname = \"j\"\nkey = \"0123456789canary\"\nmodels = [\"mm\"]\n", "t.toml:4:11: model \"mm\" is not configured: expected \"m\""),
        ("[[keys]]\nname = \"j\"\nkey = \"tg-0123456789abcdef-canary\"\n", "t.toml:9:8: keys \"j\" and \"k\" are the same key"),
        ("[[keys]]\nname = \"k\"\nkey = \"0123456789canary\"\n", "t.toml:9:8: there is another key named \"k\": metrics could not tell them apart"),
        ("[telemetry]\nendpoint = \"prometheus:9090\"\n", "t.toml:2:12: \"prometheus:9090\" is not a URL: it has to begin with http:// or https://"),
        ("[telemetry]\ninterval = \"0s\"\n", "t.toml:2:12: a duration of zero makes no sense here"),
        ("[telemetry]\ncompression = \"zstd\"\n", "t.toml:2:15: compression \"zstd\" is not known: expected \"gzip\" or \"none\""),
        ("[telemetry]\nheaders = { Content-Type = \"x\" }\n", "t.toml:2:13: \"Content-Type\" is not a header that may be set here"),
        ("[telemetry]\nendpont = \"x\"\n", "t.toml:2:1: unknown key `endpont`, expected one of `endpoint`, `interval`, `timeout`, `headers`, `compression`, `certificate`, `service_name`, `resource`; did you mean `endpoint`?"),
    ];
    assert!(cases.len() >= 40);
    let mut wrong = Vec::new();
    for (text, expected) in cases {
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
    assert_eq!(config.server.listen, "[::1]:9".parse().unwrap());
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

/// A row: variables, what to look at, what it is, what is warned about.
type Row = (&'static [(&'static str, &'static str)], &'static str, &'static str, &'static str);

#[test]
fn the_environment_follows_the_specification() {
    const M: &str = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT";
    const G: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const H: &str = "OTEL_EXPORTER_OTLP_METRICS_HEADERS";
    const R: &str = "OTEL_RESOURCE_ATTRIBUTES";
    #[rustfmt::skip]
    let cases: &[Row] = &[
        (&[], "endpoint", "http://localhost:4318/v1/metrics", ""),
        (&[(M, "http://p:9090/api/v1/otlp/v1/metrics")], "endpoint", "http://p:9090/api/v1/otlp/v1/metrics", ""),
        (&[(M, "http://p:9090")], "endpoint", "http://p:9090/", ""),
        (&[(M, "http://p:9090/x/")], "endpoint", "http://p:9090/x/", ""),
        (&[(M, "https://p/x?token=1")], "target", "/x?token=1", ""),
        (&[(M, "https://p")], "endpoint", "https://p:443/", ""),
        (&[(M, "")], "endpoint", "http://localhost:4318/v1/metrics", ""),
        (&[(M, "not a url")], "endpoint", "http://localhost:4318/v1/metrics", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT is ignored"),
        (&[(G, "http://c:4318")], "endpoint", "http://c:4318/v1/metrics", ""),
        (&[(G, "http://c:4318/")], "endpoint", "http://c:4318/v1/metrics", ""),
        (&[(G, "http://c:4318/base")], "endpoint", "http://c:4318/base/v1/metrics", ""),
        (&[(G, "http://p:9090/api/v1/otlp")], "endpoint", "http://p:9090/api/v1/otlp/v1/metrics", ""),
        (&[(G, "http://general"), (M, "http://own/m")], "endpoint", "http://own:80/m", ""),
        (&[("OTEL_ENDPOINT", "http://legacy")], "endpoint", "http://legacy:80/v1/metrics", "OTEL_ENDPOINT is LiteLLM's spelling"),
        (&[("OTEL_SDK_DISABLED", "TRUE")], "endpoint", "off", ""),
        (&[("OTEL_SDK_DISABLED", "false")], "endpoint", "http://localhost:4318/v1/metrics", ""),
        (&[("OTEL_SDK_DISABLED", "1")], "endpoint", "http://localhost:4318/v1/metrics", "neither true nor false"),
        (&[("OTEL_METRICS_EXPORTER", "none")], "endpoint", "off", ""),
        (&[("OTEL_METRICS_EXPORTER", "None")], "endpoint", "off", ""),
        (&[("OTEL_METRICS_EXPORTER", "otlp")], "endpoint", "http://localhost:4318/v1/metrics", ""),
        (&[("OTEL_METRICS_EXPORTER", "jaeger")], "endpoint", "http://localhost:4318/v1/metrics", "is not known"),
        (&[("OTEL_METRICS_EXPORTER", "prometheus")], "error", "is not supported yet", ""),
        (&[("OTEL_METRICS_EXPORTER", "none"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], "endpoint", "off", ""),
        (&[("OTEL_TRACES_EXPORTER", "none"), ("OTEL_LOGS_EXPORTER", "none")], "endpoint", "http://localhost:4318/v1/metrics", ""),
        (&[("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "HTTP/protobuf")], "endpoint", "http://localhost:4318/v1/metrics", ""),
        (&[("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc")], "error", "4318 on a Collector, not 4317", ""),
        (&[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")], "error", "Set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", ""),
        (&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/protobuf")], "endpoint", "http://localhost:4318/v1/metrics", ""),
        (&[("OTEL_EXPORTER_OTLP_PROTOCOL", "thrift")], "endpoint", "http://localhost:4318/v1/metrics", "\"thrift\" is not known; http/protobuf is used"),
        (&[("OTEL_METRIC_EXPORT_INTERVAL", "15000")], "interval", "15s", ""),
        (&[("OTEL_METRIC_EXPORT_INTERVAL", "-5")], "interval", "60s", "OTEL_METRIC_EXPORT_INTERVAL=\"-5\" is not a number of milliseconds"),
        (&[("OTEL_METRIC_EXPORT_INTERVAL", "15s")], "interval", "60s", "\"15s\" is not a number of milliseconds"),
        (&[("OTEL_METRIC_EXPORT_INTERVAL", "0")], "interval", "60s", "is no interval"),
        (&[("OTEL_EXPORTER_OTLP_TIMEOUT", "2500")], "timeout", "2.5s", ""),
        (&[("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"), ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "0")], "timeout", "no limit", ""),
        (&[("OTEL_EXPORTER_OTLP_TIMEOUT", "x")], "timeout", "10s", "\"x\" is not a number"),
        (&[("OTEL_METRIC_EXPORT_TIMEOUT", "0")], "export_timeout", "no limit", ""),
        (&[("OTEL_EXPORTER_OTLP_COMPRESSION", "GZIP")], "compression", "gzip", ""),
        (&[("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"), ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "none")], "compression", "none", ""),
        (&[("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd")], "compression", "none", "\"zstd\" is neither gzip nor none"),
        (&[("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem")], "certificate", "/ca.pem", ""),
        (&[(H, "Authorization=Basic%20YTpi%3D,x-a=1=2, x-b = c d ")], "header values", "authorization=Basic YTpi= x-a=1=2 x-b=c d", ""),
        (&[(H, "a=1,A=2")], "header values", "a=2", ""),
        (&[(H, "a=1,nonsense,b=2")], "header values", "a=1 b=2", "entry 2 is left out"),
        (&[(H, "a=%zz")], "header values", "", "entry 1 is left out"),
        (&[(H, "Content-Type=text/plain,Host=x,a+b=1+1")], "header values", "a+b=1+1", "entry 1 is left out"),
        (&[("OTEL_EXPORTER_OTLP_HEADERS", "g=1"), (H, "s=2")], "header values", "s=2", ""),
        (&[("OTEL_SERVICE_NAME", "gw")], "service.name", "gw", ""),
        (&[("OTEL_SERVICE_NAME", "gw"), (R, "service.name=other,a.b=c")], "service.name", "gw", ""),
        (&[(R, "service.name=other")], "service.name", "other", ""),
        (&[(R, "a=x%2Cy%3Dz")], "a", "x,y=z", ""),
        (&[(R, "a=1,broken,b=2")], "a", "", "is ignored as a whole"),
        (&[(R, "a=1,b=%4")], "a", "", "is ignored as a whole"),
        (&[(R, "__x=1,a=2")], "a", "2", "resource attribute \"__x\" is left out"),
        (&[], "service.name", "tollgate", ""),
        (&[], "telemetry.sdk.name", "tollgate", ""),
        (&[("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")], "interval", "60s", "is not supported yet; cumulative is used"),
        (&[("OTEL_CONFIG_FILE", "x.yaml")], "interval", "60s", "OTEL_CONFIG_FILE is ignored"),
    ];
    assert!(cases.len() >= 40);
    for (environment, what, expected, warning) in cases {
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
    // Header values are secrets: nowhere but in the request.
    let shown = format!("{:?} {:?}", loaded.settings, loaded.warnings);
    assert!(headers().iter().all(|header| !shown.contains(header.as_str())), "{shown}");
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
        ("[server]\nzz = 1\n", "[server]"),
        ("[providers.x]\nzz = 1\n", "[providers."),
        ("[models.x]\nzz = 1\n", "[models."),
        ("[models.x]\ndeployments = [{ zz = 1 }]\n", "[models."),
        ("[[keys]]\nzz = 1\n", "[[keys]]"),
        ("[telemetry]\nzz = 1\n", "[telemetry]"),
    ];
    let mut options = 0;
    for (unknown, table) in tables {
        let problem = problems(unknown).remove(0);
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
            ];
            let shown = sections.iter().any(|section| spelled.iter().any(|spelled| section.contains(spelled)));
            assert!(shown, "tollgate.example.toml does not show {option} in {table}");
        }
    }
    assert!(options >= 28, "found only {options} options");
    // A line that shows a default does not change anything when it is brought to life.
    let alive: String = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest)
                if rest.contains(" = ")
                    && !rest.starts_with([' ', 's'])
                    && rest.split(' ').next().unwrap().chars().all(|c| c.is_ascii_lowercase() || c == '_') =>
            {
                format!("{rest}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    let (given, spelled) = (load(EXAMPLE, SECRETS).unwrap().config, load(&alive, SECRETS).unwrap().config);
    assert_eq!(format!("{:?}", given.server), format!("{:?}", spelled.server));
    assert_eq!(format!("{:?}", given.providers), format!("{:?}", spelled.providers));
    let times = |config: &Config| {
        let destinations = config.telemetry.destinations.iter();
        destinations.map(|destination| (destination.interval, destination.timeout)).collect::<Vec<_>>()
    };
    assert_eq!(times(&given), times(&spelled));
}
