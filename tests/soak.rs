//! A few seconds of `make soak`: everything at once, and nothing wrong, growing or left over.

#![cfg(test)]

#[expect(dead_code, reason = "the board of faults has more use for it")]
#[path = "../benches/faults/http1.rs"]
mod http1;
#[expect(dead_code, reason = "the soak looks at the slope of memory as well")]
#[path = "../benches/soak/judge.rs"]
mod judge;
#[path = "../benches/soak/load.rs"]
mod load;
#[expect(dead_code, reason = "the board of faults has more use for it")]
#[path = "../benches/faults/process.rs"]
mod process;
#[path = "../benches/soak/run.rs"]
mod run;
#[expect(dead_code, reason = "the board of faults has more use for it")]
#[path = "../benches/faults/wall.rs"]
mod wall;

use std::{path::Path, time::Duration};

/// A debug build, and pages that are touched for the first time.
const GROWTH_MIB_MAX: f64 = 8.0;

#[test]
fn everything_at_once_leaves_nothing_behind() {
    let found = run::run(Path::new(env!("CARGO_BIN_EXE_tollgate")), Duration::from_secs(8), |_| ()).unwrap();
    assert!(found.wrong.is_empty(), "{} wrong: {:#?}", found.wrong.len(), found.wrong.first());
    assert!(found.is_ended_well, "{}", found.end);
    assert_eq!(found.counts.len(), 9, "a client did nothing: {:?}", found.counts);
    let judged = judge::judge(&found.samples, Duration::from_secs(3));
    let (before, after) = judged.descriptors;
    assert!(after <= before + 8, "{after} file descriptors after {before}");
    assert!(judged.growth_mib <= GROWTH_MIB_MAX, "grew by {:.1} MiB", judged.growth_mib);
}
