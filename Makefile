# The commands a developer needs. `make` lists them.

PEERS_DIR ?= $(or $(TOLLGATE_PEERS_DIR),$(HOME)/.cache/tollgate/peers)

.PHONY: help run ci test conformance fuzz asan check lint fmt doc bench bench-telemetry chaos faults soak static test-static deb test-deb sbom proto peers

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## Build the demo and start it: a gateway with a built-in provider, no configuration.
	cargo run --locked --profile demo -- demo

test: ## Run every test, those against real peers included where they can be had.
	@tests/peers/install
	cargo test --locked
	cargo test --locked --features loom --test registry_model
	@tests/peers/install --summary

ci: ## Run what CI runs: the checks, every test with every real peer, the static binary and the package (5 minutes).
	@.ci/run

conformance: ## List the cases that an OTLP exporter is held to, with what became of each.
	@tests/peers/install
	@tests/conformance/list

fuzz: ## Feed mutated requests, responses, bodies and configurations to their readers (ten minutes; FUZZ_SECONDS= to choose).
	FUZZ_SECONDS=$(or $(FUZZ_SECONDS),600) cargo test --locked --lib fuzz -- --nocapture

# Nightly Rust, for -Z; a folder of its own, because everything is built again.
asan: ## Run the unit tests and a minute of fuzzing under AddressSanitizer (nightly Rust; FUZZ_SECONDS= to choose).
	FUZZ_SECONDS=$(or $(FUZZ_SECONDS),60) RUSTFLAGS=-Zsanitizer=address RUSTDOCFLAGS= \
	    cargo +nightly test --locked --lib --target $$(rustc -vV | sed -n 's/^host: //p') --target-dir $(or $(CARGO_TARGET_DIR),target)/asan -- --nocapture

check: lint doc ## What CI checks besides the tests: format, lints, dependencies, docs, systemd units.
	@packaging/check-units

lint:
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	@tests/peers/cargo-deny check bans licenses sources

fmt: ## Format the code.
	cargo fmt

doc:
	RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps --document-private-items

bench: ## Measure tollgate beside nginx (a few minutes; PEERS=, TESTS=, ROUNDS= to choose).
	cargo bench --locked --bench gateway

# The SDK is a package of its own. It is built where the bench looks for it: beside what Cargo builds of this one.
bench-telemetry: ## Measure recording and exporting beside the OpenTelemetry SDK (a minute; ROUNDS= to choose).
	-cargo build --locked --release --manifest-path benches/opentelemetry_sdk/Cargo.toml --target-dir $(or $(CARGO_TARGET_DIR),target)/opentelemetry_sdk
	cargo bench --locked --bench telemetry

chaos: ## Load the gateway while its receiver misbehaves, beside one that does not (two minutes; SECONDS= to choose).
	cargo bench --locked --bench chaos

faults: ## Put the gateway through 43 faults and print the scoreboard (15 minutes; ROWS=, FAST=1, TOLLGATE= to choose).
	cargo bench --locked --bench faults

soak: ## Load the gateway with everything at once and look for what grows (MINUTES=30 to choose).
	cargo bench --locked --bench soak

static: ## Build one static binary and show its size (ARCH=aarch64, TOLLGATE_LIBC=gnu to choose).
	@packaging/static $(ARCH)

test-static: static ## Run the static binary in an empty chroot, with a provider over TLS and a name server.
	@packaging/test-static

deb: static ## Pack the static binary as a Debian package, with service, manual pages and completions.
	@packaging/make-deb $(ARCH)

test-deb: deb ## Install, run, upgrade, remove and purge the package in a copy of this machine.
	@packaging/test-deb

sbom: ## Write the bill of materials of the static binary (CycloneDX) to target/sbom.cdx.json.
	@mkdir -p target
	packaging/sbom $(or $(ARCH),$(shell uname -m))-unknown-linux-musl >target/sbom.cdx.json

proto: ## Say which OTLP messages are vendored; building compiles them.
	@cat proto/VERSION
	touch build.rs && cargo build --locked
