//! The small language of these tests: a provider that follows a script, a gateway with a
//! configuration, a client that writes raw bytes, and the metrics as they would be exported.

pub mod client;
pub mod frames;
pub mod gateway;
pub mod provider;
pub mod secure;

pub use client::{chat, get, post};
pub use gateway::Gateway;
pub use provider::{Provider, Step};

/// Longest wait for anything that has to happen.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// Waits until `condition` holds; the tests' only way to wait for another thread.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "did not happen within {PATIENCE:?}: {what}");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}
