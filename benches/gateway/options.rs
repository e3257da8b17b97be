//! What to run: options from the command line (`rounds=3`) or, in capitals, from the environment.

use std::path::PathBuf;

use crate::given::Given;
use crate::test::Test;

/// Cargo builds the gateway before it benches, so what runs is never stale.
const BUILT: &str = match option_env!("CARGO_BIN_EXE_tollgate") {
    Some(path) => path,
    None => "target/release/tollgate",
};

pub(crate) const HELP: &str = "\
Options, as NAME=value arguments after `--` or as environment variables:
  ROUNDS=6           interleaved rounds; every figure is the median over them
  SECS=2             seconds per test, peer and round
  TESTS=startup,thr,lat,sse,paced,slow    also many (5,000 connections), body4k, body100k, body4m
  PEERS=direct,nginx,tollgate    also haproxy, litellm, portkey, tollgate:PATH, as often as wanted, to compare
                     builds, and tollgate+off (no telemetry), +names=N (models and keys), +threads=N,
                     +cpu=PERCENT (of a core, for each thread: with thr, what a second thread adds)
  TOLLGATE=target/release/tollgate
  NGINX=nginx
  HAPROXY=haproxy
  LITELLM=litellm
  PORTKEY=start-server.js    of an installed @portkey-ai/gateway
  GATEWAY_CORE=0     the gateway's whole process tree runs here
  LOAD_CORE=1        the mock upstream and the load client run here
  SLOW_STREAMS=1000  streams in the slow test";

pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    pub(crate) tests: Vec<Test>,
    pub(crate) peers: Vec<String>,
    pub(crate) tollgate: PathBuf,
    pub(crate) nginx: String,
    pub(crate) haproxy: String,
    pub(crate) litellm: String,
    pub(crate) portkey: String,
    pub(crate) gateway_core: usize,
    pub(crate) load_core: usize,
    pub(crate) slow_streams: usize,
}

impl Options {
    pub(crate) fn read(arguments: &[String]) -> Result<Self, String> {
        let given = Given { arguments, help: HELP };
        given.check()?;
        Ok(Self {
            rounds: given.number("ROUNDS", &6)?,
            seconds: given.number("SECS", &2.0)?,
            tests: list(&given, "TESTS", "startup,thr,lat,sse,paced,slow")
                .iter()
                .map(|name| Test::parse(name))
                .collect::<Result<_, _>>()?,
            peers: list(&given, "PEERS", "direct,nginx,tollgate"),
            tollgate: given.text("TOLLGATE", BUILT).into(),
            nginx: given.text("NGINX", "nginx"),
            haproxy: given.text("HAPROXY", "haproxy"),
            litellm: given.text("LITELLM", "litellm"),
            portkey: given.text("PORTKEY", "start-server.js"),
            gateway_core: given.number("GATEWAY_CORE", &0)?,
            load_core: given.number("LOAD_CORE", &1)?,
            slow_streams: given.number("SLOW_STREAMS", &1000)?,
        })
    }
}

/// A list of names.
fn list(given: &Given<'_>, name: &str, default: &str) -> Vec<String> {
    given.text(name, default).split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
}
