# The verbs of this repository. Each finds, builds or installs what it needs, and says so.
# Needed: Rust (1.95 or newer) and make. Go builds the real Buildkite agent where none is found.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.PHONY: help demo demo-cloud demo-fleet test check simulate mutants images bench bench-long bench-gate

help: ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: ## a real pipeline on this machine, one machine per job; no account needed
	@parts=$$(tools/real-parts agent) || [ $$? -eq 3 ]
	export $${parts:-JITNEY_AGENT=}
	echo "Compiles Jitney first where it is new: some minutes."
	cargo build --package jitney
	cargo run --quiet --package jitney --bin jitney -- demo

FLEET := fleet_crowd::a_crowd_of_jobs_gets_agents_and_a_lost_node_costs_its_own_alone
JOBS ?= 300

demo-fleet: ## a fleet of agents on a real Kubernetes control plane, for JOBS=300; needs Linux and root
	@parts=$$(tools/real-parts agents && tools/real-parts control-plane)
	export $$parts JITNEY_FLEET_JOBS=$(JOBS) CI=true
	cargo test --quiet --package jitney --test it -- --exact $(FLEET) --nocapture

CLOUD := shell_gce::a_pipeline_comes_through_stockouts_a_quota_a_preemption_and_a_machine_that_never_boots

demo-cloud: ## a pipeline on the sandbox's Google Cloud, with real agents: stockouts, a quota, a preemption
	@parts=$$(tools/real-parts agents)
	export $$parts CI=true
	cargo test --quiet --package jitney --test it -- --exact $(CLOUD) --nocapture

test: ## everything: unit tests, the simulation, real agents, a real Kubernetes control plane
	@parts=$$(tools/real-parts agents && tools/real-parts stacks-client) || parts=""
	plane=$$(tools/real-parts control-plane) || plane=""
	chart=$$(tools/real-parts helm) || chart=""
	images=$$(tools/real-parts buildah) || images=""
	google=$$(tools/real-parts google-client) || google=""
	programs=$${CARGO_TARGET_DIR:-target}/$$(uname -m)-unknown-linux-gnu/debug
	if [ "$${CI:-}" = true ]; then
	  if [ -z "$$parts" ] || [ -z "$$plane" ] || [ -z "$$chart" ] || [ -z "$$images" ] || [ -z "$$google" ]; then exit 1; fi
	  programs=$$(PROFILE=dev deploy/docker/build --programs)
	fi
	export $$parts $$plane $$chart $$images $$google JITNEY_STATIC="$$(realpath --canonicalize-missing "$$programs")" JITNEY_TEST=1
	if cargo nextest --version >/dev/null 2>&1; then
	  cargo nextest run --workspace
	else
	  cargo test --workspace --no-fail-fast
	fi
	if command -v go >/dev/null; then (cd tools/buildkite-agent/zzglob && go test ./...); fi

check: ## what CI denies: formatting, lints, words, licences
	@cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	if command -v typos >/dev/null; then typos; else echo "typos is not installed: spelling is not checked (cargo install typos-cli)"; fi
	if cargo deny --version >/dev/null 2>&1; then cargo deny --log-level error check bans licenses sources; else echo "cargo-deny is not installed: licences are not checked (cargo install cargo-deny)"; fi

simulate: ## many seeds of the simulation: SEEDS=2000 FIRST=0 HOURS=0.5; SEEDS=1 FIRST=17 tells one whole story; DAY=1 is a day at full size
	@cargo run --quiet --release --package planner --example simulate -- $(sort $(MAKEOVERRIDES) $(foreach word,SEEDS FIRST HOURS KEEP DAY MACHINES,$(if $($(word)),$(word)=$($(word)))))

mutants: ## planted bugs, and which promise catches each
	@cargo run --quiet --release --package planner --example simulate -- mutants

PREFIX ?= jitney

images: ## container images of Jitney and the guest: PREFIX=registry.acme.example/jitney (ten minutes)
	@deploy/docker/build $(PREFIX)

BENCH := cargo run --quiet --release --package bench --
FIGURES ?=
RECORD ?=

bench: ## the figures, measured on this machine (forty minutes); FIGURES="T1 K1" for some
	@plane=""
	if [[ -z "$(FIGURES)" || "$(FIGURES)" = *K* ]]; then
	  plane=$$(tools/real-parts control-plane) || plane=""
	fi
	export $${plane:-JITNEY_ETCD=}
	$(BENCH) $(FIGURES)

bench-long: ## memory over long runs (forty minutes)
	@$(BENCH) --long

bench-gate: ## fails where something takes more processor time than recorded; RECORD=1 to record
	@$(BENCH) gate $(if $(RECORD),--record)
