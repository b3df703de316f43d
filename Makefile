# Everything that is done to this code by hand or by CI. Only Go is needed for
# run, build and bench; test also uses a C compiler (race detector), a PostgreSQL
# server binary, Chromium and npm (axe-core, oidc-provider), and says so when they are
# missing.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

GO       ?= go
ARGS     ?=
FUZZTIME ?= 60s

# The program and the tools are pure Go; the race detector turns cgo on for
# itself.
export CGO_ENABLED = 0

# Everything but test is compiled in one way, so that the build cache is shared.
BUILD    = -trimpath
# What a build says of itself: a tag, or else the time and name of the commit. No time of
# the build, so that the same commit gives the same program.
MODULE   = $(shell $(GO) list -m)
VERSION ?= $(or $(patsubst v%,%,$(shell git describe --tags --match 'v[0-9]*' --dirty 2>/dev/null)),$(shell TZ=UTC0 git log -1 --date=format-local:%Y%m%d%H%M%S --format=0.0.0-%cd-%h --abbrev=12 2>/dev/null))
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null)
DATE    ?= $(shell TZ=UTC0 git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd 2>/dev/null)
STAMP    = -X $(MODULE)/internal/release.version=$(VERSION) -X $(MODULE)/internal/release.commit=$(COMMIT) -X $(MODULE)/internal/release.date=$(DATE)
GOLANGCI = bin/golangci-lint
OPA      = bin/opa
NFPM     = bin/nfpm
SBOM     = bin/cyclonedx-gomod

.PHONY: help
help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: build ## start a demo with throwaway data and print the curl lines to try
	@exec bin/patrol serve --demo $(ARGS)

.PHONY: build
build: ## build bin/patrol
	@echo '$(GO) build $(BUILD) -o bin/patrol ./cmd/patrol'
	@$(GO) build $(BUILD) -ldflags "$(STAMP)" -o bin/patrol ./cmd/patrol # the version and the commit, which nobody wants to read

.PHONY: test
test: ## run all tests, with the race detector, on both databases
	@$(GO) run ./internal/testrun test $(ARGS)

.PHONY: check
check: $(GOLANGCI) $(OPA) ## what is quick to know of a change: format, lint, vet, tests of changed packages
	@GOFLAGS="$$GOFLAGS $(BUILD)" $(GO) run ./internal/testrun check $(ARGS)

.PHONY: fuzz
fuzz: ## fuzz every target for FUZZTIME (60s)
	@$(GO) run ./internal/testrun fuzz -time $(FUZZTIME) $(ARGS)

.PHONY: faults
faults: ## break servers and databases under load, 500 times and more, and check every answer
	PATROL_LONG=1 $(GO) test $(BUILD) -count=1 -timeout 3h -run "^TestFaults" -v $(ARGS) ./e2e/faults

.PHONY: bench
bench: build $(OPA) ## measure, and hold the results against the bars
	@missed=; measure() { echo "$$@"; "$$@" || missed="$$missed; $$*"; }; \
	measure $(GO) run $(BUILD) ./bench/load -write docs/performance.md $(ARGS); \
	measure $(GO) run $(BUILD) ./bench/grpc; \
	measure $(GO) test $(BUILD) -run "^$$" -bench . -benchmem ./bench; \
	measure $(GO) test $(BUILD) -run "^$$" -bench Replay -benchtime 1x ./policies/engine/workbench; \
	measure $(GO) test $(BUILD) -run "^$$" -bench DecisionLog -benchtime 1x -v ./bench/load; \
	measure env PATROL_LONG=1 $(GO) test $(BUILD) -count=1 -run "^TestSwapsUnderLoad$$" -v ./server; \
	test -z "$$missed" || { echo "these failed or missed a bar$$missed"; exit 1; }

.PHONY: lint
lint: $(GOLANGCI) $(OPA) ## check style, imports and go.mod files; change nothing
	GOFLAGS="$$GOFLAGS $(BUILD)" $(GOLANGCI) run $(ARGS)
	$(OPA) fmt --fail --diff policies internal/metapolicies
	@for m in . tools tools/opa tools/kubernetes tools/dist; do echo "$(GO) mod tidy -diff # in $$m"; $(GO) -C $$m mod tidy -diff || exit 1; done

.PHONY: fmt
fmt: $(GOLANGCI) $(OPA) ## format Go and Rego
	$(GOLANGCI) fmt
	$(OPA) fmt --write policies

.PHONY: generate
generate: ## write the generated files anew
	$(GO) generate ./...

.PHONY: screenshots
screenshots: ## draw every page, light and dark, into docs/images (needs Chromium)
	PATROL_REQUIRE=chromium PATROL_SCREENSHOTS=$(CURDIR)/docs/images $(GO) test -count=1 -run '^TestScreenshots$$' ./server/ui

PLATFORMS ?= linux/amd64,linux/arm64,darwin/amd64,darwin/arm64,windows/amd64,windows/arm64

.PHONY: dist
dist: $(NFPM) $(SBOM) ## make the files of a release in dist: programs, deb, rpm, SBOM, checksums
	$(GO) run $(BUILD) ./internal/dist -version "$(VERSION)" -date "$(DATE)" -stamp "$(STAMP)" -platforms "$(PLATFORMS)" -nfpm $(NFPM) -cyclonedx-gomod $(SBOM) $(ARGS)

.PHONY: clean
clean: ## remove what the targets built
	rm -rf bin dist

$(GOLANGCI): tools/go.mod tools/go.sum
	$(GO) build -C tools $(BUILD) -o ../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(NFPM): tools/dist/go.mod tools/dist/go.sum
	$(GO) build -C tools/dist $(BUILD) -o ../../$@ github.com/goreleaser/nfpm/v2/cmd/nfpm

$(SBOM): tools/dist/go.mod tools/dist/go.sum
	$(GO) build -C tools/dist $(BUILD) -o ../../$@ github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod

$(OPA): tools/opa/go.mod tools/opa/go.sum
	$(GO) build -C tools/opa $(BUILD) -o ../../$@ github.com/open-policy-agent/opa
