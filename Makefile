# The two commands are `make demo` and `make test`; both install what they need on Debian.

CACHE := $(or $(QUARRY_CACHE),$(HOME)/.cache/quarry)
CUTS ?= 20
SEED ?= 1
WORKERS ?= 3

.PHONY: demo test sanity powercut races snapshots-under-load capacity bench bench-cluster bench-controller cluster cluster-down test-cluster manifests image lint deny docs prepare programs

## A volume's whole life on a real kernel, on screen
demo: prepare programs
	target/debug/quarry-trial demo

## Everything that CI runs but format, lints and licences. The tests' own build has the programs, too; another one would be without
## the features that tests ask of libraries, and nearly all would be compiled twice
test: prepare
	cargo test --workspace --no-fail-fast -- --test-threads 4
	cd tests/chart && go test -count=1 ./...

## csi-sanity for ext4, xfs, btrfs and block volumes; reports in target/sanity
sanity: prepare programs
	target/debug/quarry-trial sanity

## Random work, power cuts and checks: make powercut CUTS=300 SEED=7
powercut: prepare programs
	target/debug/quarry-trial power-cuts --cuts $(CUTS) --seed $(SEED) --output target/powercut.json

## 64 clients at once on volumes, their snapshots and copies, against a model
races: prepare programs
	target/debug/quarry-trial races

## 200 snapshots of each file system, thin and thick, while it is written to, each restored and checked; target/under-load.json
snapshots-under-load: prepare programs
	target/debug/quarry-trial snapshots-under-load --output target/under-load.json

## Random groups with snapshots, pools and reserves: all capacity can be had, and not an extent more: make capacity SEED=7
capacity: prepare programs
	target/debug/quarry-trial capacity --seed $(SEED)

## The figures against bare lvm commands; target/bench/node.json and thin.json
bench: prepare
	cargo build --workspace --release
	target/release/quarry-trial bench --output target/bench

## What a claim and a pod wait for in Kubernetes; target/bench/cluster.json
bench-cluster: prepare
	cargo build --workspace --release
	target/release/quarry-trial bench-cluster --output target/bench/cluster.json

## The figures of a controller with 5,000 nodes, real services over machines in memory; target/bench/controller.json
bench-controller: prepare
	cargo build --workspace --release
	target/release/quarry-trial bench-controller --output target/bench/controller.json

## A real Kubernetes in the background, with three guests as workers and Quarry installed; says how to point kubectl at it
cluster: prepare programs
	target/debug/quarry-lab cluster up --workers $(WORKERS) --disk 8G
	target/debug/quarry-trial install --workers $(WORKERS)

cluster-down: programs
	target/debug/quarry-lab cluster down

## Everything that is tried in a cluster, the minutes long included, with its times
test-cluster: prepare programs
	cargo test -p quarry-lab --test cluster -- --nocapture --test-threads 1
	cargo test -p quarry-trial --test kubernetes -- --nocapture --test-threads 1 eleven_steps
	cargo test -p quarry-trial --test kubernetes -- --nocapture --test-threads 4 --include-ignored --skip hundred --skip eleven_steps
	cargo test -p quarry-trial --test kubernetes -- --nocapture --include-ignored hundred
	cargo test -p quarry-trial --test outages -- --nocapture --test-threads 1 --include-ignored
	cargo test -p quarry-trial --test values -- --nocapture --test-threads 1 --include-ignored
	cargo test -p quarry-trial --test disaster -- --nocapture --include-ignored

## deploy/quarry.yaml from the chart
manifests: prepare
	mkdir -p target
	echo '# Made by `make manifests` from deploy/chart with its default values; change those, not this.' > target/quarry.yaml
	scripts/helm template quarry deploy/chart >> target/quarry.yaml
	mv target/quarry.yaml deploy/quarry.yaml

## The image with the driver and all that it starts, an OCI archive: target/quarry-image.tar
image: prepare
	cargo build --release
	scripts/build-image "$(CACHE)" "$${CARGO_TARGET_DIR:-target}/release/quarry" target/quarry-image.tar

## Format and lints
lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

## Licences, sources and duplicate crates
deny:
	scripts/install-cargo-deny "$(CACHE)"
	"$(CACHE)/cargo-deny/bin/cargo-deny" --all-features check bans licenses sources

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

test sanity cluster test-cluster bench-cluster manifests: tools = go
prepare:
	scripts/install-packages $(tools)

programs:
	cargo build --workspace
