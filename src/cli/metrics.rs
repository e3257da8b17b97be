//! `tollgate metrics`.

use std::io::Write;

use crate::telemetry::catalog;

/// Prints the catalog.
pub(super) fn run(out: &mut dyn Write) -> u8 {
    u8::from(out.write_all(catalog::markdown().as_bytes()).is_err())
}
