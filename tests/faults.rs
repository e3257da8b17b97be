//! The rows of `make faults` that fit the time of a test: short limits, smaller crowds, no judgement of latencies.

#![cfg(test)]

#[path = "../benches/faults/canary.rs"]
mod canary;
#[expect(dead_code, reason = "the bench of receivers has more use for it")]
#[path = "../benches/chaos/cycle.rs"]
mod cycle;
#[expect(dead_code, reason = "the bench of receivers has more use for it")]
#[path = "../benches/chaos/gateway.rs"]
mod gateway;
#[path = "../benches/faults/http1.rs"]
mod http1;
#[path = "../benches/chaos/load.rs"]
mod load;
#[path = "../benches/faults/process.rs"]
mod process;
#[expect(dead_code, reason = "the board runs with other limits, and shows what it runs")]
#[path = "../benches/faults/row.rs"]
mod row;
#[path = "../benches/faults/rows/mod.rs"]
mod rows;
mod support {
    pub(crate) mod receiver;
}
#[expect(dead_code, reason = "the bench of receivers has more use for it")]
#[path = "../benches/chaos/totals.rs"]
mod totals;
#[path = "../benches/faults/wall.rs"]
mod wall;
#[expect(dead_code, reason = "the benches have more use for it")]
#[path = "../benches/gateway/wire.rs"]
mod wire;

use std::{path::Path, time::Duration};

use row::Limits;
use wall::Wall;

/// Left out: what takes longer than the others together (3, 37, 38), needs more memory or fewer file descriptors
/// than a test should (14, 40), or has a test of its own (39: `tests/chaos.rs`; 41: `tests/process`; 44: every row looks
/// for secrets in what it has logged).
const NUMBERS: [u8; 35] = [
    1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16, 17, 18, 19, 20, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34,
    35, 36, 42, 45,
];

#[test]
fn the_gateway_stands_what_clients_and_providers_do_to_it() {
    let binary = Path::new(env!("CARGO_BIN_EXE_tollgate"));
    let walls = [Wall::start().unwrap(), Wall::start().unwrap()];
    let rows: Vec<_> = rows::all().into_iter().filter(|row| NUMBERS.contains(&row.number)).collect();
    assert_eq!(rows.len(), NUMBERS.len());
    let mut failed = Vec::new();
    for row in rows {
        match row::run(&row, binary, Limits::SHORT, &walls, Duration::ZERO) {
            Ok(seen) => println!("{}: {}: {seen}", row.number, row.title),
            Err(seen) => failed.push(format!("{}: {}: {seen}", row.number, row.title)),
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
