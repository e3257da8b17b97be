//! What to run: options from the command line (`rounds=3`) or, in capitals, from the environment.

use std::path::PathBuf;

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
  TESTS=startup,thr,lat,sse,paced,slow
  PEERS=direct,nginx,tollgate    also tollgate:PATH, as often as wanted, to compare builds
  TOLLGATE=target/release/tollgate
  NGINX=nginx
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
    pub(crate) gateway_core: usize,
    pub(crate) load_core: usize,
    pub(crate) slow_streams: usize,
}

impl Options {
    pub(crate) fn read(arguments: &[String]) -> Result<Self, String> {
        let given = Given(arguments);
        given.check()?;
        Ok(Self {
            rounds: given.number("ROUNDS", &6)?,
            seconds: given.number("SECS", &2.0)?,
            tests: given
                .list("TESTS", "startup,thr,lat,sse,paced,slow")
                .iter()
                .map(|name| Test::parse(name))
                .collect::<Result<_, _>>()?,
            peers: given.list("PEERS", "direct,nginx,tollgate"),
            tollgate: given.text("TOLLGATE", BUILT).into(),
            nginx: given.text("NGINX", "nginx"),
            gateway_core: given.number("GATEWAY_CORE", &0)?,
            load_core: given.number("LOAD_CORE", &1)?,
            slow_streams: given.number("SLOW_STREAMS", &1000)?,
        })
    }
}

struct Given<'a>(&'a [String]);

impl Given<'_> {
    fn check(&self) -> Result<(), String> {
        let known = |name: &str| HELP.lines().any(|line| line.trim_start().starts_with(&format!("{name}=")));
        for argument in self.0 {
            if !argument.split_once('=').is_some_and(|(name, _)| known(&name.to_uppercase())) {
                return Err(format!("unknown option {argument}\n{HELP}"));
            }
        }
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "the bench is a program of its own, without the gateway's config")]
    fn text(&self, name: &str, default: &str) -> String {
        let mut pairs = self.0.iter().filter_map(|argument| argument.split_once('='));
        let argument = pairs.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned());
        argument
            .or_else(|| std::env::var(name).ok())
            .filter(|value| !value.is_empty())
            .unwrap_or_else(|| default.to_owned())
    }

    fn number<T: std::str::FromStr + ToString>(&self, name: &str, default: &T) -> Result<T, String> {
        let text = self.text(name, &default.to_string());
        text.parse().map_err(|_| format!("{name}={text} is not a number"))
    }

    fn list(&self, name: &str, default: &str) -> Vec<String> {
        self.text(name, default).split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
    }
}
