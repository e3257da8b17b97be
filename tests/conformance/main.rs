//! The cases that an exporter of OTLP metrics is held to, one test each: `make conformance` lists them.
//!
//! Those that need a real receiver or a private function are elsewhere under the same kind of name;
//! the test at the end sees to it that none is missing. What a case is about in detail is tested
//! where it belongs; here stands what can be seen from outside.

#![cfg(test)]

mod configuration;
mod data;
mod data_kinds;
mod life_cycle;
mod program;
mod responses;
mod shared;
#[path = "../support/mod.rs"]
mod support;
mod wire;

use std::{collections::BTreeMap, fs, path::Path};

/// How many there are.
const CASES: usize = 45;

fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_case_has_its_test() {
    let mut files = Vec::new();
    for folder in ["src", "tests"] {
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut files);
    }
    let mut cases: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for line in files.iter().flat_map(|file| file.lines()) {
        let Some(name) = line.trim().trim_start_matches("async ").strip_prefix("fn case_") else { continue };
        let (number, rest) = name.split_once('_').unwrap();
        cases.entry(number.parse().unwrap()).or_default().push(rest.to_owned());
    }
    let twice: Vec<_> = cases.iter().filter(|(_, names)| names.len() != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert!(cases.keys().copied().eq(1..=CASES), "{:?}", cases.keys());
}
