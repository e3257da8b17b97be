//! What is stored: the newest samples by series, with Prometheus's rules for appending.
//!
//! A request is one transaction: [`Head::append`] stores everything or nothing.

use std::{
    collections::{BTreeMap, HashMap},
    time::{SystemTime, UNIX_EPOCH},
};

use super::rules::Verdict;

/// Labels with the metric's name under `__name__`, as Prometheus has it.
pub(crate) type Labels = BTreeMap<String, String>;

/// One value on its way in.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub labels: Labels,
    /// Milliseconds since the epoch: finer time is lost.
    pub time: i64,
    pub value: f64,
    /// Start of a monotonic sum, for the rule that it never goes back.
    pub monotonic_since: Option<u64>,
}

/// The samples of one series, oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series {
    pub samples: Vec<(i64, f64)>,
    monotonic_since: Option<u64>,
}

impl Series {
    fn last(&self) -> Option<f64> {
        self.samples.iter().rev().map(|(_, value)| *value).find(|value| !value.is_nan())
    }
}

#[derive(Debug, Default)]
pub(crate) struct Head {
    pub series: HashMap<Labels, Series>,
}

const TEN_MINUTES: i64 = 10 * 60 * 1_000;
const ONE_HOUR: i64 = 60 * 60 * 1_000;

impl Head {
    /// Stores `samples`, or says why none of them can be; notes what is lost without a word.
    pub(crate) fn append(&mut self, samples: Vec<Sample>, violations: &mut Vec<String>) -> Result<(), Verdict> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let now = i64::try_from(now).unwrap();
        let refuse = |text: &str| Err(Verdict::Refuse(400, text.to_owned()));
        let mut batch: HashMap<Labels, Series> = HashMap::new();
        for sample in samples {
            if sample.time > now + TEN_MINUTES {
                return refuse("out of bounds: timestamp is too far in the future");
            }
            if sample.time < now - ONE_HOUR {
                return refuse("out of bounds");
            }
            let stored = self.series.get(&sample.labels);
            if let Some((time, value)) = stored.and_then(|series| series.samples.last().copied()) {
                if sample.time < time {
                    return refuse("out of order sample");
                }
                if sample.time == time && sample.value.to_bits() != value.to_bits() {
                    return refuse("duplicate sample for timestamp");
                }
                check_monotonic(&sample, stored.and_then(|series| series.monotonic_since), (time, value), violations);
            }
            let series = batch.entry(sample.labels.clone()).or_default();
            if series.samples.last().is_some_and(|(time, _)| sample.time <= *time) {
                violations.push(format!("a second sample of one series in one request is lost: {:?}", sample.labels));
                continue;
            }
            series.samples.push((sample.time, sample.value));
            series.monotonic_since = sample.monotonic_since;
        }
        for (labels, new) in batch {
            let series = self.series.entry(labels).or_default();
            // An identical resend is taken and changes nothing.
            let last = series.samples.last().map_or(i64::MIN, |(time, _)| *time);
            series.samples.extend(new.samples.into_iter().filter(|(time, _)| *time > last));
            series.monotonic_since = new.monotonic_since;
        }
        Ok(())
    }

    /// The newest values of the series that have this name and these labels, added up; those of a
    /// series that has ended are the ones before its end.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).filter_map(Series::last).sum()
    }

    /// The series that have this name and these labels.
    pub(crate) fn matching(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = &Series> {
        let has = |labels_of: &Labels, key: &str, value: &str| labels_of.get(key).is_some_and(|found| found == value);
        let matches =
            move |of: &Labels| has(of, "__name__", name) && labels.iter().all(|(key, value)| has(of, key, value));
        self.series.iter().filter(move |(of, _)| matches(of)).map(|(_, series)| series)
    }
}

/// A monotonic sum goes back only with a new start, and that lies after everything of the old one.
fn check_monotonic(sample: &Sample, since: Option<u64>, last: (i64, f64), violations: &mut Vec<String>) {
    let (Some(now), Some(since)) = (sample.monotonic_since, since) else { return };
    let (time, before) = last;
    if now == since && sample.value < before {
        violations.push(format!("a monotonic sum went from {before} to {}: {:?}", sample.value, sample.labels));
    }
    if now != since && i64::try_from(now / 1_000_000).unwrap() < time {
        violations.push(format!("a sum starts before the last point of its earlier self: {:?}", sample.labels));
    }
}
