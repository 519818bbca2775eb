# SPDX-FileCopyrightText: The Larder Authors
#
# SPDX-License-Identifier: Apache-2.0

SHELL           := /usr/bin/env bash
.SHELLFLAGS     := -euo pipefail -c
MAKEFLAGS       += --no-print-directory
.DEFAULT_GOAL   := help

VERSION         := $(file < VERSION)
BIN             := bin
LANDSCAPE       := $(BIN)/landscape
PROGRAM_BUILDER := $(BIN)/build
LDFLAGS         := -s -w -X k8s.io/component-base/version.gitVersion=$(VERSION)
PROGRAMS        := gardener-extension-registry-cache gardener-extension-registry-cache-admission registry-cache-server registry-cache-pull-secrets
IMAGE_PREFIX    ?= ghcr.io/larder-project
IMAGE_BASE      ?=
CONTAINER_TOOL  ?= docker
FUZZTIME        ?= 30s

# The same flags for all programs, including the landscape's components, so that shared packages are compiled once.
export CGO_ENABLED := 0
export GOFLAGS  := $(filter-out -trimpath,$(GOFLAGS)) -trimpath

# Tools are pinned in separate modules, so that their requirements do not affect the product.
TOOL            := go tool -modfile=hack/tools/go.mod
LINT            := go tool -modfile=hack/tools/lint/go.mod golangci-lint

.PHONY: help
help: ## List the targets.
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{ printf "  %-16s %s\n", $$1, $$2 }'

##@ Run

.PHONY: up
up: builder ## Start a landscape of real components and pull a private image through a cache.
	@$(PROGRAM_BUILDER) check
	@$(PROGRAM_BUILDER) > /dev/null
	@$(LANDSCAPE) up

.PHONY: down
down: $(LANDSCAPE) ## Stop the landscapes and remove everything that they created.
	@first=$$(realpath -m "$${LANDSCAPE_DIR:-dev/landscape}"); code=0; \
	for dir in "$$first" "$$first"-[0-9]*; do \
	  if [ "$$dir" = "$$first" ] || [ -d "$$dir" ]; then LANDSCAPE_DIR=$$dir $(LANDSCAPE) down || code=1; fi; \
	done; exit "$$code"

.PHONY: status
status: $(LANDSCAPE) ## Show the status of the landscape.
	@$(LANDSCAPE) status

##@ Build

.PHONY: programs
programs: builder ## Build all programs of the landscape; the first build takes minutes.
	@$(PROGRAM_BUILDER) > /dev/null

# It has few dependencies, so that progress appears within seconds.
.PHONY: builder
builder:
	@[ -x $(PROGRAM_BUILDER) ] || echo "==> Build the builder, which shows the progress of the others"
	@go build -o $(PROGRAM_BUILDER) ./test/landscape/cmd/build

# Stopping a landscape must not depend on a build, so an existing program is used as it is.
$(LANDSCAPE):
	@$(MAKE) builder
	@$(PROGRAM_BUILDER) check
	@$(PROGRAM_BUILDER) landscape > /dev/null

.PHONY: build
build: ## Build the programs into bin.
	@for program in $(PROGRAMS); do \
	  echo "==> Build $$program"; \
	  go build -ldflags "$(LDFLAGS)" -o $(BIN)/$$program ./cmd/$$program; \
	done

.PHONY: images
images: ## Build the container images.
	@for program in $(PROGRAMS); do \
	  echo "==> Image $(IMAGE_PREFIX)/$$program:$(VERSION)"; \
	  $(CONTAINER_TOOL) build --target $$program --build-arg VERSION=$(VERSION) $(if $(IMAGE_BASE),--build-arg BASE=$(IMAGE_BASE)) \
	    --tag $(IMAGE_PREFIX)/$$program:$(VERSION) .; \
	done

##@ Check

.PHONY: generate
generate: ## Regenerate all generated files.
	@hack/generate.sh

.PHONY: tidy
tidy: ## Tidy all modules.
	@hack/tidy.sh

.PHONY: lint
lint: ## Run the linters.
	@echo "==> Lint"
	@$(LINT) run

.PHONY: format
format: ## Format the Go code.
	@$(LINT) fmt

.PHONY: verify
verify: ## Check that generated files, modules, format and lint are clean.
	@hack/verify.sh

.PHONY: test
test: test-unit test-cache test-e2e ## Run all tests; end-to-end tests on the landscape only as root on Linux.

.PHONY: test-unit
test-unit: builder ## Run the unit and integration tests; RACE=all runs all of them with the race detector.
	@hack/test-unit.sh

.PHONY: test-cache
test-cache: ## Test the cache server with all faults and for conformance with the distribution specification.
	@echo "==> Faults and conformance of the cache server"
	@LARDER_FAULTS_IMPLEMENTATIONS=ours hack/go-test.sh -count=1 -p 1 -timeout 1h ./test/faults ./test/conformance

.PHONY: faults
faults: ## Test the cache server and stock Distribution with all faults, and print the matrix.
	@go test -count=1 -v -timeout 1h ./test/faults

.PHONY: test-e2e
test-e2e: builder ## Run the end-to-end tests on landscapes; start those that are not running.
	@hack/test-e2e.sh

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME.
	@hack/fuzz.sh $(FUZZTIME)

.PHONY: bench
bench: ## Compare the cache with stock Distribution and a plain file server, and print the ratios.
	@go run ./test/bench -runs 3

.PHONY: bench-faults
bench-faults: ## Measure the time that pulls on nodes lose because of caches that fail, with containerd 1.7 and 2.
	@go run ./test/bench/faults

.PHONY: bench-admission
bench-admission: builder ## Measure the admission component with a garden of 2,000 Shoots and 5,000 Secrets.
	@parts=$$($(PROGRAM_BUILDER) etcd kube-apiserver); TEST_ASSET_ETCD=$$parts/etcd TEST_ASSET_KUBE_APISERVER=$$parts/kube-apiserver go run ./test/bench/admission

.PHONY: bench-controller
bench-controller: builder ## Measure the controllers with 1, 100 and 1,000 Shoots.
	@parts=$$($(PROGRAM_BUILDER) etcd kube-apiserver); TEST_ASSET_ETCD=$$parts/etcd TEST_ASSET_KUBE_APISERVER=$$parts/kube-apiserver go run ./test/bench/controller

.PHONY: update-golden
update-golden: ## Update the golden files.
	@grep -rlE '"UPDATE_GOLDEN"' --include='*_test.go' pkg charts test imagevector 2>/dev/null | xargs -n1 dirname | sort -u | \
	  while read -r dir; do UPDATE_GOLDEN=1 go test -count=1 "./$$dir"; done

.PHONY: clean
clean: ## Remove all build results.
	@rm -rf $(BIN)
