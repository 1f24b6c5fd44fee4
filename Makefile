# `make help` lists the targets. Only Go is needed; with a C compiler the tests run under the
# race detector. What .ci/run needs beyond that it installs itself.

.DEFAULT_GOAL := build
SHELL         := bash
.SHELLFLAGS   := -euo pipefail -c

VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
ARGS      ?=
# go test needs cgo for -race. CI sets RACE=-race, so that a missing compiler fails there.
RACE      ?= $(if $(shell command -v "$$(go env CC)" 2>/dev/null),-race)
TESTFLAGS ?=
FUZZTIME  ?= 10s
BENCHTIME ?= 1x
CHAOS     ?= 60s
LIVES     ?= 1000
ROUNDS    ?= 15
STORE     ?= pebble

# The product's module and those nested in it, but not tools, which has no code.
MODULES   := $(sort $(patsubst %/go.mod,%,$(shell find . -name go.mod -not -path './tools/*' -not -path '*/testdata/*')))
TOOL      := go tool -modfile=$(CURDIR)/tools/go.mod

.PHONY: help
help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

.PHONY: build
build: ## build bin/rookery, static and with its version
	CGO_ENABLED=0 go build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/rookery ./cmd/rookery

.PHONY: run
run: build ## build and start the server (ARGS=... are its flags)
	exec bin/rookery serve $(ARGS)

.PHONY: test
test: ## run every test of every module under the race detector
	$(if $(RACE),,@echo 'make test: no C compiler, so without the race detector' >&2)
	@for module in $(MODULES); do (set -x; cd "$$module"; go test $(RACE) -timeout 20m $(TESTFLAGS) ./...); done

.PHONY: test-mongo-pg
test-mongo-pg: ## run the tests of the MongoDB store on FerretDB over PostgreSQL (installs it)
	storage/mongo/mongotest/with-postgres go test $(TESTFLAGS) -count 1 ./storage/mongo/...

.PHONY: lint
lint: ## check formatting and run the linters of .golangci.yaml
	@for module in $(MODULES); do (set -x; cd "$$module"; $(TOOL) golangci-lint run ./...); done

.PHONY: fmt
fmt: ## format the code with gofumpt
	$(TOOL) gofumpt -w .

.PHONY: bench
bench: ## run every Go benchmark (BENCHTIME=1x)
	@for module in $(MODULES); do (set -x; cd "$$module"; go test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./...); done

.PHONY: bench-compare
bench-compare: build ## measure against mosquitto and bare mochi (ARGS='--only login --rounds 3')
	bin/rookery bench compare $(ARGS)

.PHONY: performance
performance: build ## measure everything and write it into docs/performance.md and docs/flames (about an hour)
	mkdir -p docs/flames
	bin/rookery bench compare --markdown docs/performance.md --flames docs/flames $(ARGS)

.PHONY: fuzz
fuzz: ## run every fuzz target (FUZZTIME=10s each)
	@for dir in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -r -n1 dirname | sort -u); do \
		targets=$$(cd "$$dir"; go test -list '^Fuzz' . | sed -n '/^Fuzz/p'); \
		for target in $$targets; do \
			(set -x; cd "$$dir"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) .); \
		done; \
	done

.PHONY: chaos
chaos: ## spoil the connections of 20 clients for CHAOS and compare what they saw (CHAOS=60s)
	go test $(RACE) ./client -run TestChaos -count 1 -timeout 0 -v -args -client.chaos=$(CHAOS)

CRASH_pebble := TestKilledAtRandom
CRASH_mongo  := TestKilledAtRandomOnMongoDB

.PHONY: crash
crash: ## kill the real binary LIVES times under load and check every promise (LIVES=1000, STORE=pebble or mongo)
	go test ./internal/crash -run '^$(CRASH_$(STORE))$$' -count 1 -timeout 0 -v -args -crash.lives=$(LIVES) -crash.mongo-lives=$(LIVES)

.PHONY: two-owners
two-owners: ## let two processes own the same groups, stop and kill them at random, ROUNDS times 40 s (ROUNDS=15)
	go test ./internal/crash -run '^TestTwoOwners$$' -count 1 -timeout 0 -v -args -crash.owners-rounds=$(ROUNDS) -crash.owners-time=40s -crash.owners-pause=20s

.PHONY: push-soak
push-soak: ## push one message to a group of 100,000 members with three devices each, killing the worker on the way
	ROOKERY_TEST_PUSH_MEMBERS=100000 go test -v -run 'TestHugeGroup|TestMemory' ./push/dispatch

.PHONY: tidy-check
tidy-check: ## fail when a go.mod or go.sum is not tidy
	@for module in $(MODULES) tools; do (set -x; cd "$$module"; go mod tidy -diff); done

.PHONY: clean
clean: ## remove what make built
	rm -rf bin
