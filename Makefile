# The commands of this project. Each fetches what it needs once, into a cache outside the checkout.
#   make run    two sample backends and Nodegate on 127.0.0.1:8080, from examples/quickstart
#   make test   everything that needs no root: format, lints, dependencies, every test, a real kube-apiserver included
#   make e2e    three real Kubernetes nodes on this machine, and every scenario on them; as root
#   make soak   three nodes again, and what their scenarios do at length: upgrade after upgrade under 100,000 requests, outages of ten minutes, everything at random; an hour and a quarter; as root
#   make bench  Nodegate and its peers, measured side by side for about an hour: loadtest/README.md
#   make image  the container image, without a container engine, into target/container

# A failure in a pipe or in the middle of a line is a failure.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CACHE := $(or $(NODEGATE_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/nodegate)
TARGET := $(or $(CARGO_TARGET_DIR),target)
DENY_VERSION := 0.20.2
DENY := $(CACHE)/cargo-deny/$(DENY_VERSION)/bin/cargo-deny

# In CI the lock file is what was committed.
LOCKED := $(if $(CI),--locked)

.PHONY: help run test image fmt lint deny kube check e2e soak bench

help:
	@sed -n 's/^#   //p' Makefile

# The dev profile: built in a fraction of a release build's time, shared with the tests, and fast enough to try things with.
run:
	cargo build $(LOCKED) --bin nodegate --example echo
	@exec examples/quickstart/run.sh $(TARGET)/debug

test: fmt lint deny kube check

# A release build of its own, link-time optimisation included: minutes.
image:
	manifests/image/build $(TARGET)/container

fmt:
	@echo '== format'
	cargo fmt --check

lint:
	@echo '== lints'
	cargo clippy $(LOCKED) --all-targets -- -D warnings
	cargo clippy $(LOCKED) --test cluster -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc $(LOCKED) --no-deps

deny: $(DENY)
	@echo '== dependencies: duplicates, licences, sources'
	$(DENY) --all-features check bans licenses sources

# Unoptimised: it reads one lock file, and builds in a minute this way.
$(DENY):
	@echo '== fetching and building cargo-deny $(DENY_VERSION), once, about a minute'
	cargo install cargo-deny --version $(DENY_VERSION) --locked --debug --quiet --root $(CACHE)/cargo-deny/$(DENY_VERSION)

kube:
	@echo '== kube-apiserver, etcd, kubectl, Helm, h2spec, the interop programs of gRPC and the WebSocket suite of Autobahn, for the tests, fetched and built once'
	tests/kube/build.sh kube-apiserver etcd kubectl
	tests/kube/build.sh helm
	tests/kube/build.sh h2spec grpc-client grpc-server
	tests/protocols/autobahn/install.sh

# Last, so that its `test result` lines end the output.
check:
	@echo '== tests'
	cargo test $(LOCKED) --no-fail-fast

# It installs the Debian packages that it lacks, and builds Kubernetes and the images; tests/cluster/main.rs says what else it can do.
e2e:
	@echo '== three nodes'
	cargo test $(LOCKED) --test cluster
	tests/cluster/killed.sh

soak:
	@echo '== three nodes, at length'
	cargo test $(LOCKED) --test cluster -- --long

# It installs the peers and the load generators.
bench:
	loadtest/run
