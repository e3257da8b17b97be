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
        ("[sever]\n", "t.toml:1:2: unknown key `sever`, expected one of `server`, `providers`, `models`, `keys`, `telemetry`, `admin`; did you mean `server`?"),
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
        ("[telemetry]\nexporters = [\"otlp\", \"promethus\"]\n", "t.toml:2:22: \"promethus\" is not known: expected \"otlp\", \"prometheus\", \"console\" or \"none\"; did you mean `prometheus`?"),
        ("[telemetry]\nexporters = \"otlp\"\n", "t.toml:2:13: invalid type: string \"otlp\", expected a sequence"),
        ("[telemetry]\nprotocol = \"thrift\"\n", "t.toml:2:12: \"thrift\" is not known: expected \"http/protobuf\", \"http/json\" or \"grpc\""),
        ("[telemetry]\ntemporality = \"deltas\"\n", "t.toml:2:15: \"deltas\" is not known: expected \"cumulative\", \"delta\" or \"lowmemory\""),
        ("[telemetry]\nhistograms = \"native\"\n", "t.toml:2:14: histograms \"native\" is not known: expected \"explicit\" or \"exponential\""),
        ("[telemetry]\nexport_timeout = \"30\"\n", "t.toml:2:18: \"30\" is not a duration: write a whole number and a unit, such as \"15s\", \"500ms\", \"2m\" or \"1h\""),
        ("[telemetry]\ntimeout = \"-1s\"\n", "t.toml:2:11: \"-1s\" is not a duration: write a whole number and a unit, such as \"15s\", \"500ms\", \"2m\" or \"1h\""),
        ("[telemetry]\nclient_certificate = \"/c.pem\"\n", "t.toml:2:22: a client_certificate needs its client_key"),
        ("[telemetry]\nclient_key = \"/k.pem\"\n", "t.toml:2:14: a client_key needs its client_certificate"),
        ("[telemetry]\nendpoint = \"http://u:canary@h\"\n", "t.toml:2:12: a URL must not carry a user or password: use api_key or a header"),
        ("[telemetry]\nheaders = { x = \"${NOPE}\" }\n", "t.toml:2:17: the environment variable NOPE is not set: export it, or put it into the unit's EnvironmentFile"),
        ("[telemetry]\nheaders = { \"a b\" = \"canary\" }\n", "t.toml:2:13: \"a b\" is not a header that may be set here"),
        ("[telemetry.buckets]\n\"http.server.request.duratin\" = [1.0]\n", "t.toml:2:1: \"http.server.request.duratin\" is no histogram of `tollgate metrics`; did you mean `http.server.request.duration`?"),
        ("[telemetry.buckets]\n\"tollgate.tokens\" = [1.0]\n", "t.toml:2:1: \"tollgate.tokens\" is no histogram of `tollgate metrics`"),
        ("[telemetry.buckets]\n\"tollgate.overhead.duration\" = []\n", "t.toml:2:32: there have to be from 1 to 160 bounds, not 0"),
        ("[telemetry.buckets]\n\"tollgate.overhead.duration\" = [1, 1]\n", "t.toml:2:32: bounds have to ascend: [1.0, 1.0]"),
        ("[telemetry.buckets]\n\"tollgate.overhead.duration\" = [2, 1]\n", "t.toml:2:32: bounds have to ascend: [2.0, 1.0]"),
        ("[telemetry.buckets]\n\"tollgate.overhead.duration\" = [0]\n", "t.toml:2:32: 0 is no bound: it has to be from 1e-9 to 1e15; the last bucket has none"),
        ("[telemetry.buckets]\n\"tollgate.overhead.duration\" = [1, inf]\n", "t.toml:2:32: inf is no bound: it has to be from 1e-9 to 1e15; the last bucket has none"),
        ("[telemetry.buckets]\n\"tollgate.overhead.duration\" = [nan]\n", "t.toml:2:32: NaN is no bound: it has to be from 1e-9 to 1e15; the last bucket has none"),
        ("[telemetry.buckets]\n\"tollgate.overhead.duration\" = [-1]\n", "t.toml:2:32: -1 is no bound: it has to be from 1e-9 to 1e15; the last bucket has none"),
        ("[telemetry.buckets]\n\"tollgate.overhead.duration\" = [1.0000000001e-9, 1.0000000002e-9]\n", "t.toml:2:32: 0.0000000010000000001 and 0.0000000010000000002 are the same in the unit that is recorded"),
        ("[telemetry.buckets]\n\"tollgate.overhead.duration\" = [\"1\"]\n", "t.toml:2:33: invalid type: string \"1\", expected f64"),
        ("[[telemetry.export]]\nname = \"g\"\n", "t.toml:1:1: missing field `endpoint`"),
        ("[[telemetry.export]]\nendpoint = \"http://g/x\"\n", "t.toml:1:1: missing field `name`"),
        ("[[telemetry.export]]\nname = \"otlp\"\nendpoint = \"http://g/x\"\n", "t.toml:2:8: there is another receiver named \"otlp\"; \"otlp\" is the one of [telemetry]"),
        ("[[telemetry.export]]\nname = \"g g\"\nendpoint = \"http://g/x\"\n", "t.toml:2:8: ' ' cannot stand in the name of a receiver: use letters, digits and . _ : / @ + -"),
        ("[[telemetry.export]]\nname = \"g\"\nendpoint = \"g:4317\"\n", "t.toml:3:12: \"g:4317\" is not a URL: it has to begin with http:// or https://"),
        ("[[telemetry.export]]\nname = \"g\"\nendpoint = \"http://g/x\"\n[[telemetry.export]]\nname = \"g\"\nendpoint = \"http://g/x\"\n", "t.toml:5:8: there is another receiver named \"g\"; \"otlp\" is the one of [telemetry]"),
        ("[[telemetry.export]]\nname = \"g\"\nendpoint = \"http://g/x\"\ninterval = \"0s\"\n", "t.toml:4:12: a duration of zero makes no sense here"),
        ("[[telemetry.export]]\nname = \"g\"\nendpoint = \"http://g/x\"\ntemporality = \"no\"\n", "t.toml:4:15: \"no\" is not known: expected \"cumulative\", \"delta\" or \"lowmemory\""),
        ("[[telemetry.export]]\nname = \"g\"\nendpoint = \"http://g/x\"\nheaders = { host = \"canary\" }\n", "t.toml:4:13: \"host\" is not a header that may be set here"),
        ("[[telemetry.export]]\nname = \"g\"\nendpoint = \"http://g/x\"\nresource = { a = \"b\" }\n", "t.toml:4:1: unknown key `resource`, expected one of `name`, `endpoint`, `protocol`, `headers`, `compression`, `certificate`, `client_certificate`, `client_key`, `temporality`, `timeout`, `interval`, `export_timeout`"),
        ("[admin]\nlisten = \"localhost\"\n", "t.toml:2:10: \"localhost\" is not an address and port, such as \"127.0.0.1:9464\""),
        ("[admin]\nlisten = \"0.0.0.0:9464\"\n", "t.toml:2:10: 0.0.0.0:9464 can be reached from other hosts: set admin.token, or listen on 127.0.0.1"),
        ("[admin]\ntoken = \"canary\"\n", "t.toml:2:9: the token has to have at least 16 bytes; `tollgate key new` makes one"),
        ("[admin]\ntoken = \"${NOPE}\"\n", "t.toml:2:9: the environment variable NOPE is not set: export it, or put it into the unit's EnvironmentFile"),
        ("[admin]\nlisen = \"127.0.0.1:1\"\n", "t.toml:2:1: unknown key `lisen`, expected `listen` or `token`; did you mean `listen`?"),
        ("[telemetry]\nendpont = \"x\"\n", "t.toml:2:1: unknown key `endpont`, expected one of `exporters`, `endpoint`, `protocol`, `interval`, `timeout`, `export_timeout`, `headers`, `compression`, `certificate`, `client_certificate`, `client_key`, `temporality`, `histograms`, `buckets`, `service_name`, `resource`, `export`; did you mean `endpoint`?"),
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
    const E: &str = "OTEL_METRICS_EXPORTER";
    const P: &str = "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL";
    const C: &str = "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION";
    const T: &str = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
    const A: &str = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION";
    const D: &str = "http://localhost:4318/v1/metrics";
    #[rustfmt::skip]
    let cases: &[Row] = &[
        // Endpoints over HTTP.
        (&[], "endpoint", D, ""),
        (&[(M, "http://p:9090/api/v1/otlp/v1/metrics")], "endpoint", "http://p:9090/api/v1/otlp/v1/metrics", ""),
        (&[(M, "http://p:9090")], "endpoint", "http://p:9090/", ""),
        (&[(M, "http://p:9090/x/")], "endpoint", "http://p:9090/x/", ""),
        (&[(M, "https://p/x?token=1")], "target", "/x?token=1", ""),
        (&[(M, "https://p/x?token=1")], "endpoint", "https://p:443/x", ""),
        (&[(M, "https://p")], "endpoint", "https://p:443/", ""),
        (&[(M, "HTTPS://p")], "endpoint", "https://p:443/", ""),
        (&[(M, "http://[::1]:9/x")], "endpoint", "http://[::1]:9/x", ""),
        (&[(M, "")], "endpoint", D, ""),
        (&[(M, ""), (G, "http://c:1")], "endpoint", "http://c:1/v1/metrics", ""),
        (&[(M, "not a url")], "endpoint", D, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT is ignored: \"not a url\" is not a URL"),
        (&[(M, "not a url"), (G, "http://c")], "endpoint", "http://c:80/v1/metrics", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT is ignored"),
        (&[(M, "c:4318")], "endpoint", D, "it has to begin with http:// or https://"),
        (&[(M, "http://u:canary@c")], "endpoint", D, "must not carry a user or password"),
        (&[(M, "http://c:99999")], "endpoint", D, "the port has to be a number from 1 to 65535"),
        (&[(M, "http://c/#f")], "endpoint", D, "has a fragment"),
        (&[(M, "http://c:4317/v1/metrics")], "endpoint", "http://c:4317/v1/metrics", "4317 is usually the port for OTLP over gRPC; that for http/protobuf is 4318"),
        (&[(G, "http://c:4318")], "endpoint", "http://c:4318/v1/metrics", ""),
        (&[(G, "http://c:4318/")], "endpoint", "http://c:4318/v1/metrics", ""),
        (&[(G, "http://c:4318/base")], "endpoint", "http://c:4318/base/v1/metrics", ""),
        (&[(G, "http://c:4318/base/")], "endpoint", "http://c:4318/base/v1/metrics", ""),
        (&[(G, "http://p:9090/api/v1/otlp")], "endpoint", "http://p:9090/api/v1/otlp/v1/metrics", ""),
        (&[(G, "http://general"), (M, "http://own/m")], "endpoint", "http://own:80/m", ""),
        (&[("OTEL_ENDPOINT", "http://legacy")], "endpoint", "http://legacy:80/v1/metrics", "OTEL_ENDPOINT is LiteLLM's spelling: it is read, but OTEL_EXPORTER_OTLP_ENDPOINT is the standard's"),
        (&[("OTEL_ENDPOINT", "http://legacy"), (G, "http://c")], "endpoint", "http://c:80/v1/metrics", "LiteLLM's spelling"),
        // What metrics go to.
        (&[("OTEL_SDK_DISABLED", "TRUE")], "exporters", "none", ""),
        (&[("OTEL_SDK_DISABLED", "true"), (E, "otlp,console,prometheus")], "exporters", "none", ""),
        (&[("OTEL_SDK_DISABLED", "true"), (M, "http://p")], "endpoint", "", ""),
        (&[("OTEL_SDK_DISABLED", "false")], "endpoint", D, ""),
        (&[("OTEL_SDK_DISABLED", "")], "exporters", "otlp", ""),
        (&[("OTEL_SDK_DISABLED", "1")], "exporters", "otlp", "OTEL_SDK_DISABLED=\"1\" is ignored: expected true or false; false is assumed"),
        (&[(E, "none")], "exporters", "none", ""),
        (&[(E, "none")], "endpoint", "", ""),
        (&[(E, "None")], "exporters", "none", ""),
        (&[(E, "otlp")], "endpoint", D, ""),
        (&[(E, "OTLP, Console")], "exporters", "otlp, console", ""),
        (&[(E, "prometheus")], "exporters", "prometheus", ""),
        (&[(E, "prometheus")], "endpoint", "", ""),
        (&[(E, "prometheus")], "admin", "127.0.0.1:9464", ""),
        (&[(E, "otlp,prometheus,console")], "exporters", "otlp, console, prometheus", ""),
        (&[(E, "console")], "admin", "off", ""),
        (&[(E, "logging")], "exporters", "console", "\"logging\" is the old name of \"console\""),
        (&[(E, "none,otlp")], "exporters", "otlp", "none is ignored beside others"),
        (&[(E, "jaeger")], "exporters", "otlp", "\"jaeger\" is ignored: expected otlp, prometheus, console or none"),
        (&[(E, "jaeger,prometheus")], "exporters", "prometheus", "\"jaeger\" is ignored"),
        (&[(E, "")], "exporters", "otlp", ""),
        (&[(E, ",")], "exporters", "otlp", ""),
        (&[(E, "none"), (P, "grpc")], "exporters", "none", ""),
        (&[("OTEL_TRACES_EXPORTER", "none"), ("OTEL_LOGS_EXPORTER", "none")], "endpoint", D, ""),
        (&[("OTEL_EXPORTER", "console")], "exporters", "console", "OTEL_EXPORTER is LiteLLM's spelling"),
        (&[("OTEL_EXPORTER", "console"), (E, "otlp")], "exporters", "otlp", "OTEL_EXPORTER is LiteLLM's spelling"),
        (&[("OTEL_EXPORTER_PROMETHEUS_PORT", "9999")], "admin", "off", ""),
        (&[(E, "prometheus"), ("OTEL_EXPORTER_PROMETHEUS_PORT", "9999")], "admin", "127.0.0.1:9999", ""),
        (&[(E, "prometheus"), ("OTEL_EXPORTER_PROMETHEUS_HOST", "::1")], "admin", "[::1]:9464", ""),
        (&[(E, "prometheus"), ("OTEL_EXPORTER_PROMETHEUS_HOST", "localhost"), ("OTEL_EXPORTER_PROMETHEUS_PORT", "1")], "admin", "127.0.0.1:1", ""),
        (&[(E, "prometheus"), ("OTEL_EXPORTER_PROMETHEUS_HOST", "example.com")], "admin", "127.0.0.1:9464", "OTEL_EXPORTER_PROMETHEUS_HOST=\"example.com\" is ignored: expected localhost or an IP address"),
        (&[(E, "prometheus"), ("OTEL_EXPORTER_PROMETHEUS_PORT", "0")], "admin", "127.0.0.1:9464", "expected a port from 1 to 65535"),
        (&[(E, "prometheus"), ("OTEL_EXPORTER_PROMETHEUS_PORT", "70000")], "admin", "127.0.0.1:9464", "expected a port from 1 to 65535"),
        (&[(E, "prometheus"), ("OTEL_EXPORTER_PROMETHEUS_HOST", "0.0.0.0")], "error", "OTEL_EXPORTER_PROMETHEUS_HOST: 0.0.0.0:9464 can be reached from other hosts: set admin.token", ""),
        // Protocols.
        (&[], "protocol", "http/protobuf", ""),
        (&[(P, "HTTP/protobuf")], "protocol", "http/protobuf", ""),
        (&[(P, "http/json")], "protocol", "http/json", ""),
        (&[(P, "http/json")], "endpoint", D, ""),
        (&[(P, "grpc")], "protocol", "grpc", ""),
        (&[(P, "GRPC")], "endpoint", "http://localhost:4317/", ""),
        (&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), (P, "http/protobuf")], "endpoint", D, ""),
        (&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), (P, "thrift")], "protocol", "grpc", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=\"thrift\" is ignored: expected http/protobuf, http/json or grpc"),
        (&[("OTEL_EXPORTER_OTLP_PROTOCOL", "thrift")], "protocol", "http/protobuf", "\"thrift\" is ignored"),
        (&[("OTEL_EXPORTER", "otlp_grpc")], "protocol", "grpc", "LiteLLM's spelling"),
        (&[("OTEL_EXPORTER", "otlp_http")], "protocol", "http/protobuf", "LiteLLM's spelling"),
        (&[("OTEL_EXPORTER", "otlp_http"), (P, "grpc")], "protocol", "grpc", "LiteLLM's spelling"),
        (&[(P, "grpc"), (M, "http://c:4317/some/path")], "endpoint", "http://c:4317/", ""),
        (&[(P, "grpc"), (G, "http://c:4317")], "endpoint", "http://c:4317/", ""),
        (&[(P, "grpc"), (G, "c:4317")], "endpoint", "https://c:4317/", ""),
        (&[(P, "grpc"), (G, "c:4317"), ("OTEL_EXPORTER_OTLP_INSECURE", "True")], "endpoint", "http://c:4317/", ""),
        (&[(P, "grpc"), (G, "c:4317"), ("OTEL_EXPORTER_OTLP_METRIC_INSECURE", "true")], "endpoint", "http://c:4317/", ""),
        (&[(P, "grpc"), (G, "c:4317"), ("OTEL_EXPORTER_OTLP_INSECURE", "true"), ("OTEL_EXPORTER_OTLP_METRICS_INSECURE", "false")], "endpoint", "https://c:4317/", ""),
        (&[(P, "grpc"), (G, "c:4317"), ("OTEL_EXPORTER_OTLP_INSECURE", "yes")], "endpoint", "https://c:4317/", "OTEL_EXPORTER_OTLP_INSECURE=\"yes\" is ignored: expected true or false"),
        (&[(P, "grpc"), (G, "https://c:4317"), ("OTEL_EXPORTER_OTLP_INSECURE", "true")], "endpoint", "https://c:4317/", ""),
        (&[(P, "grpc"), (G, "http://c:4318")], "endpoint", "http://c:4318/", "4318 is usually the port for OTLP over HTTP; that for grpc is 4317"),
        // Numbers.
        (&[("OTEL_METRIC_EXPORT_INTERVAL", "15000")], "interval", "15s", ""),
        (&[("OTEL_METRIC_EXPORT_INTERVAL", " 15000 ")], "interval", "15s", ""),
        (&[("OTEL_METRIC_EXPORT_INTERVAL", "")], "interval", "60s", ""),
        (&[("OTEL_METRIC_EXPORT_INTERVAL", "-5")], "interval", "60s", "OTEL_METRIC_EXPORT_INTERVAL=\"-5\" is ignored: expected a whole number of milliseconds above 0"),
        (&[("OTEL_METRIC_EXPORT_INTERVAL", "+5")], "interval", "60s", "\"+5\" is ignored"),
        (&[("OTEL_METRIC_EXPORT_INTERVAL", "15s")], "interval", "60s", "\"15s\" is ignored"),
        (&[("OTEL_METRIC_EXPORT_INTERVAL", "1.5")], "interval", "60s", "\"1.5\" is ignored"),
        (&[("OTEL_METRIC_EXPORT_INTERVAL", "0")], "interval", "60s", "\"0\" is ignored"),
        (&[("OTEL_METRIC_EXPORT_INTERVAL", "2147483647")], "interval", "2147483.647s", ""),
        (&[("OTEL_METRIC_EXPORT_INTERVAL", "2147483648")], "interval", "60s", "\"2147483648\" is ignored"),
        (&[("OTEL_METRIC_EXPORT_INTERVAL", "99999999999999999999")], "interval", "60s", "is ignored"),
        (&[("OTEL_EXPORTER_OTLP_TIMEOUT", "2500")], "timeout", "2.5s", ""),
        (&[("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"), ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "0")], "timeout", "no limit", ""),
        (&[("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"), ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "x")], "timeout", "2.5s", "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT=\"x\" is ignored"),
        (&[("OTEL_EXPORTER_OTLP_TIMEOUT", "x")], "timeout", "10s", "\"x\" is ignored: expected a whole number of milliseconds, 0 for no limit"),
        (&[("OTEL_EXPORTER_OTLP_TIMEOUT", "")], "timeout", "10s", ""),
        (&[("OTEL_METRIC_EXPORT_TIMEOUT", "0")], "export_timeout", "no limit", ""),
        (&[("OTEL_METRIC_EXPORT_TIMEOUT", "5000")], "export_timeout", "5s", ""),
        (&[("OTEL_METRIC_EXPORT_TIMEOUT", "-1")], "export_timeout", "30s", "\"-1\" is ignored"),
        // Names of a few choices.
        (&[("OTEL_EXPORTER_OTLP_COMPRESSION", "GZIP")], "compression", "gzip", ""),
        (&[("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"), (C, "none")], "compression", "none", ""),
        (&[("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"), (C, "")], "compression", "gzip", ""),
        (&[("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd")], "compression", "none", "\"zstd\" is ignored: expected gzip or none"),
        (&[], "temporality", "cumulative", ""),
        (&[(T, "Delta")], "temporality", "delta", ""),
        (&[(T, "LOWMEMORY")], "temporality", "lowmemory", ""),
        (&[(T, "cumulative")], "temporality", "cumulative", ""),
        (&[(T, "")], "temporality", "cumulative", ""),
        (&[(T, "deltas")], "temporality", "cumulative", "\"deltas\" is ignored: expected cumulative, delta or lowmemory"),
        (&[], "histograms", "explicit", ""),
        (&[(A, "Base2_Exponential_Bucket_Histogram")], "histograms", "exponential", ""),
        (&[(A, "explicit_bucket_histogram")], "histograms", "explicit", ""),
        (&[(A, "exponential")], "histograms", "explicit", "\"exponential\" is ignored: expected explicit_bucket_histogram or base2_exponential_bucket_histogram"),
        (&[("OTEL_METRICS_EXEMPLAR_FILTER", "always_on")], "interval", "60s", "no exemplars are exported"),
        (&[("OTEL_METRICS_EXEMPLAR_FILTER", "trace_based")], "interval", "60s", ""),
        // Files.
        (&[("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem")], "certificate", "/ca.pem", ""),
        (&[("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"), ("OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", "/own.pem")], "certificate", "/own.pem", ""),
        (&[("OTEL_EXPORTER_OTLP_CERTIFICATE", "")], "certificate", "built-in and system roots", ""),
        (&[("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/c.pem"), ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/k.pem")], "client_certificate", "/c.pem", ""),
        (&[("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/c.pem"), ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/k.pem"), ("OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE", "/m.pem")], "client_certificate", "/m.pem", ""),
        (&[("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/c.pem")], "client_certificate", "none", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE is ignored: OTEL_EXPORTER_OTLP_CLIENT_KEY is not set"),
        (&[("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/k.pem")], "client_certificate", "none", "OTEL_EXPORTER_OTLP_CLIENT_KEY is ignored: OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE is not set"),
        // Headers.
        (&[(H, "Authorization=Basic%20YTpi%3D,x-a=1=2, x-b = c d ")], "header values", "authorization=Basic YTpi= x-a=1=2 x-b=c d", ""),
        (&[(H, "a=1,A=2")], "header values", "a=2", ""),
        (&[(H, "%61=1")], "header values", "a=1", ""),
        (&[(H, "a=,b=2")], "header values", "a= b=2", ""),
        (&[(H, "a=1,,b=2,")], "header values", "a=1 b=2", ""),
        (&[(H, "a=1,nonsense,b=2")], "header values", "a=1 b=2", "OTEL_EXPORTER_OTLP_METRICS_HEADERS: entry 2 is left out: it is not `key=value` with a header name that may be set"),
        (&[(H, "a=%zz")], "header values", "", "entry 1 is left out"),
        (&[(H, "a=%4")], "header values", "", "entry 1 is left out"),
        (&[(H, "a=%0a")], "header values", "", "entry 1 is left out"),
        (&[(H, "a=%ff")], "header values", "", "entry 1 is left out"),
        (&[(H, "=1")], "header values", "", "entry 1 is left out"),
        (&[(H, "π=1")], "header values", "", "entry 1 is left out"),
        (&[(H, "a b=1")], "header values", "", "entry 1 is left out"),
        (&[(H, "Content-Type=text/plain,Host=x,a+b=1+1")], "header values", "a+b=1+1", "entry 1 is left out"),
        (&[("OTEL_EXPORTER_OTLP_HEADERS", "g=1"), (H, "s=2")], "header values", "s=2", ""),
        (&[("OTEL_EXPORTER_OTLP_HEADERS", "g=1"), (H, "")], "header values", "g=1", ""),
        (&[("OTEL_HEADERS", "l=1")], "header values", "l=1", "OTEL_HEADERS is LiteLLM's spelling"),
        (&[(H, "Authorization=canary")], "headers", "authorization=***", ""),
        // Resource.
        (&[("OTEL_SERVICE_NAME", "gw")], "service.name", "gw", ""),
        (&[("OTEL_SERVICE_NAME", ""), (R, "service.name=other")], "service.name", "other", ""),
        (&[("OTEL_SERVICE_NAME", "gw"), (R, "service.name=other,a.b=c")], "service.name", "gw", ""),
        (&[(R, "service.name=other")], "service.name", "other", ""),
        (&[(R, "service.instance.id=mine")], "service.instance.id", "mine", ""),
        (&[(R, "a=x%2Cy%3Dz")], "a", "x,y=z", ""),
        (&[(R, "a=1=2")], "a", "1=2", ""),
        (&[(R, "a=1,a=2")], "a", "2", ""),
        (&[(R, " a = b c ")], "a", "b c", ""),
        (&[(R, "a=π")], "a", "π", ""),
        (&[(R, "a=1,broken,b=2")], "a", "", "OTEL_RESOURCE_ATTRIBUTES=\"a=1,broken,b=2\" is ignored as a whole: \"broken\" has no `=`"),
        (&[(R, "a=1,b=%4")], "a", "", "is ignored as a whole"),
        (&[(R, "a=1,b=%zz")], "a", "", "a `%` is not followed by two hexadecimal digits"),
        (&[(R, "a=1,b=%ff")], "a", "", "what is percent-encoded is not UTF-8"),
        (&[(R, "__x=1,a=2")], "a", "2", "resource attribute \"__x\" is left out: a key begins with a letter"),
        (&[(R, "π=1,a=2")], "a", "2", "resource attribute \"π\" is left out"),
        (&[(R, "=1,a=2")], "a", "2", "resource attribute \"\" is left out"),
        (&[(R, "le=1,a=2")], "a", "2", "resource attribute \"le\" is left out: this key means something else to Prometheus"),
        (&[(R, "job=1,a=2")], "job", "", "resource attribute \"job\" is left out"),
        (&[(R, "instance=1")], "instance", "", "resource attribute \"instance\" is left out"),
        (&[(R, "a b=1")], "a b", "", "resource attribute \"a b\" is left out"),
        (&[], "service.name", "tollgate", ""),
        (&[], "telemetry.sdk.name", "tollgate", ""),
        (&[("OTEL_CONFIG_FILE", "x.yaml")], "interval", "60s", "OTEL_CONFIG_FILE is ignored"),
    ];
    assert!(cases.len() >= 150, "{}", cases.len());
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
        ("[server]\nzz = 1\n", "[server]"),
        ("[providers.x]\nzz = 1\n", "[providers."),
        ("[models.x]\nzz = 1\n", "[models."),
        ("[models.x]\ndeployments = [{ zz = 1 }]\n", "[models."),
        ("[[keys]]\nzz = 1\n", "[[keys]]"),
        ("[telemetry]\nzz = 1\n", "[telemetry]"),
        ("[[telemetry.export]]\nzz = 1\n", "[telemetry]"),
        ("[admin]\nzz = 1\n", "[admin]"),
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
                format!("\n#   {option} = "),
                format!("\n# [[telemetry.{option}]]\n"),
            ];
            let shown = sections.iter().any(|section| spelled.iter().any(|spelled| section.contains(spelled)));
            assert!(shown, "tollgate.example.toml does not show {option} in {table}");
        }
    }
    assert!(options >= 50, "found only {options} options");
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
