//! Compiles `proto/` to Rust with protox, so that no `protoc` is needed on the machine, and for static
//! builds with musl on x86-64 the functions that copy memory.

use std::{env, error::Error, path::PathBuf};

const FILES: [&str; 8] = [
    "opentelemetry/proto/common/v1/common.proto",
    "opentelemetry/proto/resource/v1/resource.proto",
    "opentelemetry/proto/metrics/v1/metrics.proto",
    "opentelemetry/proto/trace/v1/trace.proto",
    "opentelemetry/proto/logs/v1/logs.proto",
    "opentelemetry/proto/collector/metrics/v1/metrics_service.proto",
    "opentelemetry/proto/collector/trace/v1/trace_service.proto",
    "opentelemetry/proto/collector/logs/v1/logs_service.proto",
];

#[expect(clippy::disallowed_methods, reason = "a build script is told where to write by the environment")]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    prost_build::Config::new()
        .out_dir(out)
        .include_file("otlp.rs")
        // Comments of the .proto files are not Markdown and would trip rustdoc.
        .disable_comments(["."])
        .compile_fds(descriptors)?;
    memory();
    Ok(())
}

/// `src/memory.c` says why.
#[expect(clippy::disallowed_methods, reason = "a build script is told of its target by the environment")]
fn memory() {
    println!("cargo::rerun-if-changed=src/memory.c");
    let target = |name: &str| env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    if target("ENV") != "musl" || target("ARCH") != "x86_64" {
        return;
    }
    cc::Build::new()
        .file("src/memory.c")
        .opt_level(2)
        .flag("-ffreestanding")
        // Neither is a loop to be taken for a call of the function that it is in.
        .flag("-fno-builtin")
        .flag_if_supported("-fno-tree-loop-distribute-patterns")
        .link_lib_modifier("+whole-archive")
        .compile("tollgate_memory");
}
