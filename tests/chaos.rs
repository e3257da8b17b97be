//! A gateway under load whose receiver misbehaves in every way: nothing is lost, nothing grows.
//!
//! `make chaos` does the same for longer, with the release build, and looks at latencies as well.

#![cfg(test)]

mod support {
    pub(crate) mod receiver;
}

#[path = "../benches/chaos/cycle.rs"]
mod cycle;
#[path = "../benches/chaos/gateway.rs"]
mod gateway;
#[path = "../benches/chaos/load.rs"]
mod load;
#[path = "../benches/chaos/totals.rs"]
mod totals;
#[expect(dead_code, reason = "the benches have more use for it")]
#[path = "../benches/gateway/wire.rs"]
mod wire;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use cycle::{Cycle, Trouble};
use gateway::Gateway;
use load::Client;
use support::receiver::{Receiver, Version};
use totals::Arrived;

/// The binary is a debug build, and its allocator's first steps are part of what is seen.
const GROWTH_MAX_KIB: u64 = 8 * 1024;

#[test]
fn a_misbehaving_receiver_costs_no_count_and_no_memory() {
    let receiver = Receiver::start(Version::V3_14);
    let mut gateway = Gateway::start(Path::new(env!("CARGO_BIN_EXE_tollgate")), &receiver.url(), 200).unwrap();
    let mut client = Client::connect(gateway.address, 3).unwrap();
    client.run(300.0, Instant::now() + Duration::from_millis(500));
    let (memory, descriptors) = (gateway.memory().unwrap(), gateway.descriptors().unwrap());

    let mut cycle = Cycle::new(Duration::from_millis(650), Duration::from_millis(350));
    let end = Instant::now() + (cycle.trouble + cycle.pause) * Trouble::ALL.len() as u32;
    std::thread::scope(|scope| {
        scope.spawn(|| cycle.run(&receiver, end, |trouble| println!("the receiver's trouble: {}", trouble.name())));
        client.run(300.0, end);
    });

    let growth = gateway.memory().unwrap().saturating_sub(memory);
    assert!(growth <= GROWTH_MAX_KIB, "grew by {growth} KiB");
    let now = gateway.descriptors().unwrap();
    assert!(now <= descriptors + 2, "{now} file descriptors after {descriptors}");
    assert!(gateway.stop().unwrap().success());

    let messages: Vec<_> = receiver.requests().into_iter().filter_map(|request| request.message).collect();
    let arrived = Arrived::from(&messages);
    assert!(client.counts.requests > 500, "{:?}", client.counts);
    for line in arrived.compare(&client.counts) {
        let (what, receiver, client) = (line.what, line.receiver, line.client);
        assert!(
            line.agrees(),
            "{what}: {receiver} at the receiver, {client} at the client; {:?}",
            arrived.exports_by_error()
        );
    }
    assert_eq!(client.counts.errors, 0, "{:?}", client.counts.first_error);
    // Otherwise this was an ordinary day.
    let exports = arrived.exports_by_error();
    for error in ["connect", "timeout", "429", "500", "redirect"] {
        let is_met = exports.iter().any(|(ended, count)| ended == error && *count > 0.0);
        assert!(is_met, "no export ended in {error}: {exports:?}\n{}", gateway.log());
    }
    assert!(receiver.endless_bytes() > 0);
}
