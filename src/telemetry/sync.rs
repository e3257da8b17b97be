//! The primitives under the registry: the standard library's, or loom's where a model of every
//! interleaving is wanted (`--features loom`, tests/registry_model.rs).

#[cfg(not(feature = "loom"))]
pub(super) use std::sync::{
    Arc, Mutex, OnceLock,
    atomic::{AtomicBool, AtomicU64, AtomicUsize},
};

#[cfg(feature = "loom")]
pub(super) use self::model::OnceLock;
#[cfg(feature = "loom")]
pub(super) use loom::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, AtomicUsize},
};

/// What loom has no model of, made from what it has one of.
#[cfg(feature = "loom")]
mod model {
    use std::sync::PoisonError;

    use loom::sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    };

    /// A cell that is written once: whoever sees the flag sees the value, and one writer at a time.
    #[derive(Debug)]
    pub(in crate::telemetry) struct OnceLock<T> {
        is_set: AtomicBool,
        writing: Mutex<()>,
        value: std::sync::OnceLock<T>,
    }

    impl<T> OnceLock<T> {
        pub(in crate::telemetry) fn new() -> Self {
            Self { is_set: AtomicBool::new(false), writing: Mutex::new(()), value: std::sync::OnceLock::new() }
        }

        pub(in crate::telemetry) fn get(&self) -> Option<&T> {
            if self.is_set.load(Ordering::Acquire) { self.value.get() } else { None }
        }

        pub(in crate::telemetry) fn get_or_init(&self, value: impl FnOnce() -> T) -> &T {
            let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
            let value = self.value.get_or_init(value);
            self.is_set.store(true, Ordering::Release);
            value
        }
    }
}
