# Weft's everyday commands. Each one installs what it needs and is missing.

TEST_BIN_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))/debug
BENCH_BIN_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))/release
TESTS ?=
SCENARIO ?=
RUNS ?= 5
SOAK_ROUNDS ?= 20
TARGET ?= frames
SECONDS ?= 60
IMAGE_PROGRAMS := weftd weft weft-cni $(if $(wildcard agent/Cargo.toml),weft-agent)
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')

# Where Debian has what administrators start; `su` alone does not set it.
export PATH := $(PATH):/usr/sbin:/sbin

.DEFAULT_GOAL := help
.PHONY: help demo cni bpf image reproduce test check deny bless bench bench-quick bench-programs instructions check-perf bless-perf fuzz soak clean

help: ## List these commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## Build, then show a fabric of two nodes at work, with containers and a tunnel
	@scripts/install-deps demo
	cargo build --locked --release --bin weftd --bin weft
	@WEFT_BIN_DIR=$(BENCH_BIN_DIR) scripts/demo

cni: ## Build the CNI plugin as containers' nodes want it: one small file that needs no library
	@scripts/install-deps cni
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --profile plugin --target $(HOST) -p weft-cni
	@echo "$(or $(CARGO_TARGET_DIR),target)/$(HOST)/plugin/weft-cni"

bpf: ## Build the kernel's fast path anew: commit bpf/fastpath.o with its source
	@scripts/install-deps bpf
	bpf/build

image: ## Build the container image from scratch, without a container engine: target/image/weft.tar
	@scripts/install-deps image
	packaging/image/build $(or $(CARGO_TARGET_DIR),target)/image $(IMAGE_PROGRAMS)

reproduce: ## Build the image of the last commit twice, in two folders, and compare
	@scripts/install-deps image
	packaging/image/verify-reproducible $(IMAGE_PROGRAMS)

test: ## Run every test; the end-to-end ones make their own network namespaces (needs root)
	@scripts/install-deps test
	cargo build --locked --workspace --bins
	WEFT_BIN_DIR=$(TEST_BIN_DIR) scripts/run-tests $(TESTS)

check: ## Formatting, lints, documentation, dependencies, generated code
	@scripts/install-deps check
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --locked --workspace --no-deps --document-private-items
	scripts/deny
	bpf/build --check
	cargo test --locked --quiet -p weft-proto -p weft-agent --test generated --test crds

bless: ## Write anew what is generated: code from the .proto files, the chart's CRDs from the agent's types
	WEFT_BLESS=1 cargo test --locked --quiet -p weft-proto -p weft-agent --test generated --test crds

bench: bench-programs ## Measure Weft beside its peers; SCENARIO=id for one (cluster: an agent of many nodes), RUNS=n for fewer or more runs
ifneq ($(SCENARIO),cluster)
	WEFT_BIN_DIR=$(BENCH_BIN_DIR) $(BENCH_BIN_DIR)/weft-bench --runs $(RUNS) $(if $(SCENARIO),--scenario $(SCENARIO))
endif
ifneq (,$(filter cluster,$(or $(SCENARIO),cluster)))
	cargo build --locked --release --bin weft-agent --bin weft-fake-cluster
	WEFT_BIN_DIR=$(BENCH_BIN_DIR) $(BENCH_BIN_DIR)/weft-bench cluster
endif

bench-quick: bench-programs ## See in a few minutes that every scenario of make bench works; its figures are no measurement
	WEFT_BIN_DIR=$(BENCH_BIN_DIR) $(BENCH_BIN_DIR)/weft-bench --quick $(if $(SCENARIO),--scenario $(SCENARIO))

# Those that are built from crates.io take minutes: only a whole measurement, or one of theirs, gets them.
bench: BENCH_PEERS := $(if $(SCENARIO),$(if $(filter %-boringtun %-gotatun,$(SCENARIO)),all),all)

bench-programs:
	@scripts/install-deps bench
	@scripts/bench-peers $(BENCH_PEERS)
	@$(MAKE) --no-print-directory cni
	cargo build --locked --release --bin weftd --bin weft --bin weft-bench
	@install -D $(or $(CARGO_TARGET_DIR),target)/$(HOST)/plugin/weft-cni $(BENCH_BIN_DIR)/weft-cni

instructions: ## Count the instructions that the stack executes for a packet; SCENARIO=id for one
	@scripts/install-deps guard
	cargo build --locked --release --bin weft-bench
	$(BENCH_BIN_DIR)/weft-bench instructions $(if $(SCENARIO),--scenario $(SCENARIO))

check-perf: ## Compare the instructions for a packet with bench/instructions.json: what costs over 5 % more fails
	@scripts/install-deps guard
	cargo build --locked --release --bin weft-bench
	$(BENCH_BIN_DIR)/weft-bench guard

bless-perf: ## Write bench/instructions.json anew: commit it with the reason
	@scripts/install-deps guard
	cargo build --locked --release --bin weft-bench
	$(BENCH_BIN_DIR)/weft-bench guard --bless

fuzz: ## Fuzz TARGET (a folder of fuzz/seeds) for SECONDS
	@scripts/install-deps fuzz
	scripts/fuzz $(TARGET) $(SECONDS)

soak: ## Repeat the end-to-end tests SOAK_ROUNDS times
	@scripts/install-deps test
	cargo build --locked --workspace --bins
	@for round in $$(seq $(SOAK_ROUNDS)); do \
	  echo "soak: round $$round of $(SOAK_ROUNDS)"; \
	  WEFT_BIN_DIR=$(TEST_BIN_DIR) scripts/run-tests -p weft-tests $(TESTS) || exit 1; \
	done

clean: ## Remove what was built
	cargo clean
