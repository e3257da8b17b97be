//! The functions that copy memory in static builds, against plain loops: every length and overlap that
//! takes a way of its own through them.
#![cfg(target_arch = "x86_64")]

use std::{path::Path, process::Command};

#[test]
fn memory_is_copied_and_compared_as_by_plain_loops() {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("memory");
    let built = Command::new("cc")
        .args(["-O2", "-ffreestanding", "-fno-builtin", "-Wall", "-Wextra", "-Werror", "-DSELF_TEST", "-o"])
        .arg(&program)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/src/memory.c"))
        .status();
    assert!(built.unwrap().success());
    let ran = Command::new(&program).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && said.ends_with(" checks\n"), "{said}");
}
