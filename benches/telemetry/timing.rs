//! The loops that are timed.
//!
//! The program that measures the OpenTelemetry SDK has this file too, so that both are timed alike. A figure is the
//! median of short blocks: what the machine did to some of them does not move it.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

const BLOCKS: usize = 25;
const BLOCK: Duration = Duration::from_millis(3);

/// Nanoseconds per call on one thread. The call is given the number of the turn.
pub(crate) fn alone(operation: impl Fn(usize)) -> f64 {
    let turns = turns_per_block(&operation);
    median(blocks(turns, &operation))
}

/// Nanoseconds per call on each of two threads at once. The call is given the number of its thread, too.
pub(crate) fn together(operation: impl Fn(usize, usize) + Sync) -> f64 {
    let turns = turns_per_block(&|turn| operation(0, turn));
    let barrier = Barrier::new(2);
    let times = std::thread::scope(|scope| {
        let threads = [0, 1].map(|thread| {
            let (barrier, operation) = (&barrier, &operation);
            scope.spawn(move || {
                barrier.wait();
                blocks(turns, &|turn| operation(thread, turn))
            })
        });
        // A thread that panicked has said so already.
        threads.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect()
    });
    median(times)
}

/// Milliseconds of one call that takes long: the median of so many.
pub(crate) fn slow<T>(times: usize, mut operation: impl FnMut() -> T) -> f64 {
    black_box(operation());
    let mut took = Vec::with_capacity(times);
    for _ in 0..times {
        let start = Instant::now();
        // What it made is thrown away inside the time, as the exporter has to.
        drop(black_box(operation()));
        took.push(start.elapsed().as_secs_f64() * 1e3);
    }
    median(took)
}

fn blocks(turns: usize, operation: &impl Fn(usize)) -> Vec<f64> {
    let mut times = Vec::with_capacity(BLOCKS);
    for _ in 0..BLOCKS {
        let start = Instant::now();
        for turn in 0..turns {
            operation(black_box(turn));
        }
        times.push(start.elapsed().as_secs_f64() * 1e9 / turns as f64);
    }
    times
}

/// Warms up on the way: the last try alone runs for as long as a block.
fn turns_per_block(operation: &impl Fn(usize)) -> usize {
    let mut turns = 1_024;
    loop {
        let start = Instant::now();
        for turn in 0..turns {
            operation(black_box(turn));
        }
        if start.elapsed() >= BLOCK {
            return turns;
        }
        turns *= 2;
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}
