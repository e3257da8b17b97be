//! Mutated inputs for whatever reads what strangers send: `make fuzz`, `make asan`.
//!
//! Each target runs for a moment in every test run, and for `FUZZ_SECONDS` if that is set. A target
//! returns what it made of an input; an input of which it made something new becomes one to mutate,
//! so that the search goes on from where it has got to.

use std::{
    collections::{HashSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher as _},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Inputs to mutate, at most. Those that were there from the start stay.
const CORPUS_MAX: usize = 2_000;

/// Inputs are kept shorter than this: the readers' limits have tests of their own.
const INPUT_MAX: usize = 64 * 1024;

/// xorshift64*: repeatable, and good enough to choose bytes.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Less than `limit`, or 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % limit.max(1)
    }

    /// A generator for a part of the work.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next() | 1)
    }
}

/// Shows the input if the target panics on it.
struct Tried<'a>(&'a [u8]);

impl Drop for Tried<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the input was \"{}\"", self.0.escape_ascii());
        }
    }
}

/// Feeds mutations of `corpus`, with `pieces` that matter to the reader, to `target`.
#[expect(clippy::disallowed_methods, reason = "a test is not the program")]
pub(crate) fn run<R: Hash>(
    name: &str,
    corpus: &[&[u8]],
    pieces: &[&[u8]],
    mut target: impl FnMut(&[u8], &mut Random) -> R,
) {
    let seconds = std::env::var("FUZZ_SECONDS").ok().map_or(0.3, |seconds| seconds.parse().unwrap());
    let seed = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap() | 1;
    let (mut random, begun, mut runs) = (Random(seed), Instant::now(), 0_u64);
    let mut inputs: Vec<Vec<u8>> = corpus.iter().map(|input| input.to_vec()).collect();
    let mut seen = HashSet::new();
    let mut attempt = |input: &[u8], random: &mut Random| {
        let tried = Tried(input);
        let mut hasher = DefaultHasher::new();
        target(tried.0, random).hash(&mut hasher);
        seen.insert(hasher.finish())
    };
    for input in corpus {
        attempt(input, &mut random);
    }
    while begun.elapsed() < Duration::from_secs_f64(seconds) {
        let mut input = inputs[random.below(inputs.len())].clone();
        mutate(&mut random, &mut input, &inputs, pieces);
        input.truncate(INPUT_MAX);
        if attempt(&input, &mut random) {
            if inputs.len() < CORPUS_MAX {
                inputs.push(input);
            } else {
                let place = corpus.len() + random.below(CORPUS_MAX - corpus.len());
                inputs[place] = input;
            }
        }
        runs += 1;
    }
    println!("{name}: {runs} inputs in {seconds} s, {} different outcomes, seed {seed}", seen.len());
}

fn mutate(random: &mut Random, input: &mut Vec<u8>, inputs: &[Vec<u8>], pieces: &[&[u8]]) {
    for _ in 0..=random.below(6) {
        let (at, end) = (random.below(input.len() + 1), random.below(input.len() + 1));
        let (at, end) = (at.min(end), at.max(end));
        match random.below(7) {
            0 if at < input.len() => input[at] = random.next() as u8,
            1 if at < input.len() => input[at] ^= 1 << random.below(8),
            2 => drop(input.splice(at..at, pieces[random.below(pieces.len())].iter().copied())),
            3 => drop(input.drain(at..end.min(at + 8))),
            4 => {
                let copy = input[at..end.min(at + 64)].to_vec();
                drop(input.splice(end..end, copy));
            }
            5 => {
                let piece = pieces[random.below(pieces.len())];
                let until = input.len().min(at + piece.len());
                drop(input.splice(at..until, piece.iter().copied()));
            }
            _ => {
                let other = &inputs[random.below(inputs.len())];
                drop(input.splice(at..at, other[random.below(other.len() + 1)..].iter().copied()));
            }
        }
    }
}
