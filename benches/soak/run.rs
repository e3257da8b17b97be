//! One soak, from the start of the gateway to its end.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::judge::Sample;
use crate::load::{self, Tally};
use crate::process::{Gateway, KEY, PROVIDER_KEY, Start};
use crate::wall::Wall;

pub(crate) struct Found {
    pub(crate) counts: Vec<(&'static str, u64)>,
    pub(crate) wrong: Vec<String>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) end: String,
    pub(crate) is_ended_well: bool,
}

/// Loads the gateway for so long; `tell` hears of a sample now and then.
pub(crate) fn run(binary: &Path, time: Duration, tell: impl Fn(&Sample)) -> Result<Found, String> {
    let wall = || Wall::start().map_err(|error| error.to_string());
    let (first, second) = (wall()?, wall()?);
    let toml = toml(&first, &second);
    let start = Start { binary, toml: &toml, before: "", arguments: &[], environment: &[] };
    let mut gateway = Gateway::start(&start).map_err(|error| error.to_string())?;
    let (tally, stop) = (Tally::default(), AtomicBool::new(false));
    let began = Instant::now();
    let mut samples = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| load::run(&gateway, &first, &tally, &stop));
        while began.elapsed() < time {
            sleep(Duration::from_millis(500).min(time / 20));
            let sample = Sample { at: began.elapsed(), memory: gateway.memory(), descriptors: gateway.descriptors() };
            if samples.len() % 60 == 0 {
                tell(&sample);
            }
            samples.push(sample);
        }
        stop.store(true, Relaxed);
    });
    gateway.signal("TERM");
    let status = gateway.wait(Duration::from_secs(10));
    let panics = gateway.log().matches("panicked").count();
    Ok(Found {
        counts: tally.counts.into_inner().unwrap_or_default().into_iter().collect(),
        wrong: tally.wrong.into_inner().unwrap_or_default(),
        samples,
        end: format!("{status:?}, {panics} panics"),
        is_ended_well: status.is_some_and(|status| status.success()) && panics == 0,
    })
}

fn toml(first: &Wall, second: &Wall) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[telemetry]\nexporters = [\"none\"]\n\
         [providers.first]\nbase_url = \"http://{}/v1\"\napi_key = \"{PROVIDER_KEY}\"\n\
         [providers.second]\nbase_url = \"http://{}/v1\"\napi_key = \"{PROVIDER_KEY}\"\n\
         [models.first]\ndeployments = [{{ provider = \"first\" }}]\n\
         [models.pair]\ndeployments = [{{ provider = \"first\" }}, {{ provider = \"second\" }}]\n\
         [[keys]]\nname = \"soak\"\nkey = \"{KEY}\"\n# soak\n",
        first.address, second.address
    )
}
