# podkeeper: `make help` lists the targets.
SHELL := /bin/bash
GO := hack/go
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
# containerd 2, built from the module that the client is from, where the tests find it.
CONTAINERD2 := PODKEEPER_TEST_CONTAINERD=$(CURDIR)/bin/containerd2
CONTAINERD2_TOOLS := $(addprefix github.com/containerd/containerd/v2/cmd/,containerd containerd-shim-runc-v2)
# etcd, kubeadm and Kubernetes' own control plane, built from a module of their own.
CONTROLPLANE := $(CURDIR)/bin/controlplane
UNITS := podkeeper.service podkeeper-api.socket
# Where files go. Packages have PREFIX=/usr and units in /usr/lib/systemd/system.
PREFIX ?= /usr/local
UNIT_DIR ?= /etc/systemd/system
SHARE := $(DESTDIR)$(PREFIX)/share
# The same source makes the same binary, wherever it is built.
BUILD := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false
LDFLAGS = -s -w -X main.version=$(VERSION) -X k8s.io/component-base/version.gitVersion=$(KUBERNETES)
# Packages: 1.2.3 where HEAD is tagged v1.2.3, else 1.2.3+4.gabc, four commits later.
NFPM := github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2
PACKAGE_VERSION ?= $(shell hack/package version)
SBOM := github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
ARCHITECTURES := amd64 arm64
DIST ?= bin/dist
PACK = mkdir -p $(DIST) && PACKAGE_VERSION='$(PACKAGE_VERSION)' ARCHITECTURE=$* $(GO) run $(NFPM) package -f packaging/nfpm.yaml -p $(1) -t $(abspath $(DIST))/
# What carries a time has that of the commit.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
# kubectl says the version of the Kubernetes that it is of.
KUBERNETES = $(shell $(GO) list -m -f '{{.Version}}' k8s.io/kubernetes)

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 20

build: setup ## build bin/podkeeper and bin/podkeeper-api
	$(BUILD) -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

check: setup ## run the linters, and ask for known vulnerabilities where their database can be reached
	$(GO) vet -tags docs,profile ./...
	$(GO) run $(LINT) run --allow-parallel-runners ./...
	hack/vuln

test: check test-unit test-integration test-containerd2 test-service ## install what is missing, and run every test

test-unit: setup ## run the tests that need no containerd
	$(GO) test -race -short -tags docs ./...

test-integration: setup ## run the tests on a real containerd, CNI and cgroups, as root (CONTAINERD=2: on containerd 2)
	$(if $(CONTAINERD),mkdir -p bin/containerd2 && $(GO) build -o bin/containerd2/ $(CONTAINERD2_TOOLS))
	$(if $(CONTAINERD),$(CONTAINERD2)) $(GO) test -count=1 -parallel 4 -timeout 30m $(if $(RUN),-run '$(RUN)') ./cmd/podkeeper

test-containerd2: ## run a short selection of them on containerd 2; all of them: make test-integration CONTAINERD=2
	$(MAKE) test-integration CONTAINERD=2 RUN='Example|Sees|Termination|PullPolicies|ContainerdDies|IsUpgraded|TestAUserNamespace'

test-controlplane: setup ## build etcd and Kubernetes' control plane, and run the static Pods that kubeadm writes for it; the first build takes long
	mkdir -p $(CONTROLPLANE)
	CGO_ENABLED=0 $(GO) build -C hack/controlplane -trimpath -buildvcs=false -o $(CONTROLPLANE)/etcd go.etcd.io/etcd/server/v3
	release=$$($(GO) list -C hack/controlplane -m -f '{{.Version}}' k8s.io/kubernetes) && CGO_ENABLED=0 $(GO) build -C hack/controlplane -trimpath -buildvcs=false \
		-ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$$release" -o $(CONTROLPLANE)/ \
		$(addprefix k8s.io/kubernetes/cmd/,kubeadm kube-apiserver kube-controller-manager kube-scheduler)
	PODKEEPER_TEST_CONTROLPLANE=$(CONTROLPLANE) $(GO) test -count=1 -v -timeout 30m -run 'ControlPlane' ./cmd/podkeeper

test-service: setup ## run the systemd service and its Pods in a VM, over kills and two reboots; skips where there can be no VM
	hack/nodetest/run

test-vm: setup ## run all tests in VMs: cgroup v2, both cgroup drivers, crun, the service, ten reboots; takes more than an hour
	hack/vm/selftest
	hack/vm/gotest -t 3600 $$($(GO) list ./... | grep -v -e /cmd/ -e /hack/)
	hack/nodetest/run -integration cgroupfs -test.parallel 2
	hack/nodetest/run -integration systemd -test.parallel 2
	hack/nodetest/run -long
	hack/nodetest/run -selinux

test-selinux: setup ## run Pods with SELinux labels in a VM that enforces a policy
	hack/nodetest/run -selinux

bench-vm: setup ## print figures that need a host of their own: a boot to ten Pods against the same by hand, and an upgrade under 50 Pods
	hack/nodetest/run -figures

chaos: setup ## have faults befall a node by chance, beside edits, and check it after each few; FAULTS=200 SEED=N (a run once more) FAULT='NAME|NAME'
	PODKEEPER_TEST_DIR=/var/tmp/podkeeper-chaos $(GO) test -count=1 -v -timeout 5h -run '^TestChaos$$' ./cmd/podkeeper -chaos.faults $(or $(FAULTS),200) $(if $(SEED),-chaos.seed $(SEED)) $(if $(FAULT),-chaos.only '$(FAULT)')

fuzz: setup ## fuzz every parser of what comes from outside, each for FUZZTIME=30s; ONLY=Decode for some of them
	hack/fuzz '$(or $(FUZZTIME),30s)' $(if $(ONLY),'$(ONLY)')

licenses: setup ## list what is linked and its licences, with their texts: bin/licenses.txt
	@mkdir -p bin
	$(GO) run ./hack/licenses -o bin/licenses.txt

bench: setup ## measure podkeeper against a floor and podman; ONLY=one,many PODS= ROUNDS= IDLE= SOAK= JSON=FILE BINARY=FILE PROFILE=DIR
	$(GO) run ./hack/bench $(if $(ONLY),-only '$(ONLY)') $(if $(PODS),-pods $(PODS)) $(if $(ROUNDS),-rounds $(ROUNDS)) $(if $(IDLE),-idle $(IDLE)) $(if $(SOAK),-soak $(SOAK)) \
		$(if $(JSON),-json '$(JSON)') $(if $(BINARY),-binary '$(BINARY)') $(if $(PROFILE),-profile '$(PROFILE)')
	$(if $(ONLY),,$(GO) test -run '^$$' -bench . ./agent/admit)

run: build ## show an example Pod running; Ctrl-C leaves it, make down removes it
	@$(BUILD) -o bin/ ./hack/demo ./hack/demoimage
	@bin/demo up

down: build ## remove everything that make run has made
	@$(BUILD) -o bin/demo ./hack/demo
	@bin/demo down

docs: setup ## build man pages and shell completions: bin/man, bin/completions
	$(GO) run -tags docs -ldflags '-X main.version=$(VERSION)' ./cmd/podkeeper docs bin

install: build docs ## install podkeeper as a systemd service, and start it
	@$(MAKE) --no-print-directory lay BINARIES=bin
	[ -e $(DESTDIR)/etc/podkeeper/config.yaml ] || install -m 644 packaging/config.yaml $(DESTDIR)/etc/podkeeper/config.yaml
	[ -e $(DESTDIR)/etc/podkeeper/kubeconfig ] || ln -sfn /var/lib/podkeeper/kubeconfig $(DESTDIR)/etc/podkeeper/kubeconfig
	[ -n "$(DESTDIR)" ] || { systemd-sysusers podkeeper.conf && systemctl daemon-reload && systemctl enable $(UNITS) && systemctl restart $(UNITS); }

# lay lays out what an installation and a package both have, with the programs of BINARIES.
lay:
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin $(BINARIES)/podkeeper $(BINARIES)/podkeeper-api
	install -D -m 644 -t $(SHARE)/man/man1 bin/man/*.1
	install -D -m 644 -t $(SHARE)/bash-completion/completions bin/completions/podkeeper
	install -D -m 644 -t $(SHARE)/zsh/site-functions bin/completions/_podkeeper
	install -D -m 644 -t $(SHARE)/fish/vendor_completions.d bin/completions/podkeeper.fish
	install -D -m 644 -t $(DESTDIR)$(UNIT_DIR) packaging/podkeeper.service packaging/podkeeper-api.socket packaging/podkeeper-api.service
	sed -i 's|^ExecStart=/usr/local/|ExecStart=$(PREFIX)/|' $(DESTDIR)$(UNIT_DIR)/podkeeper.service $(DESTDIR)$(UNIT_DIR)/podkeeper-api.service
	install -D -m 644 packaging/podkeeper.sysusers $(DESTDIR)/usr/lib/sysusers.d/podkeeper.conf
	install -D -m 644 -t $(SHARE)/podkeeper packaging/prometheus-alerts.yaml packaging/grafana-dashboard.json
	install -d -m 755 $(DESTDIR)/etc/podkeeper/manifests

uninstall: ## stop the service and remove it; Pods run on, and manifests and data stay
	[ -n "$(DESTDIR)" ] || systemctl disable --now $(UNITS)
	rm -f $(DESTDIR)$(PREFIX)/bin/podkeeper $(DESTDIR)$(PREFIX)/bin/podkeeper-api $(DESTDIR)/usr/lib/sysusers.d/podkeeper.conf
	rm -f $(DESTDIR)$(UNIT_DIR)/podkeeper.service $(DESTDIR)$(UNIT_DIR)/podkeeper-api.socket $(DESTDIR)$(UNIT_DIR)/podkeeper-api.service
	[ ! -L $(DESTDIR)/etc/podkeeper/kubeconfig ] || rm $(DESTDIR)/etc/podkeeper/kubeconfig
	rm -f $(SHARE)/man/man1/podkeeper.1 $(SHARE)/man/man1/podkeeper-*.1 $(SHARE)/fish/vendor_completions.d/podkeeper.fish
	rm -f $(SHARE)/bash-completion/completions/podkeeper $(SHARE)/zsh/site-functions/_podkeeper
	rm -rf $(SHARE)/podkeeper
	[ -n "$(DESTDIR)" ] || systemctl daemon-reload

deb: $(addprefix deb-,$(ARCHITECTURES)) ## build packages for Debian and Ubuntu, amd64 and arm64, into bin/dist (DIST, PACKAGE_VERSION)

rpm: $(addprefix rpm-,$(ARCHITECTURES)) ## build packages for Fedora and its kin, amd64 and arm64

deb-%: stage-%
	$(call PACK,deb)

rpm-%: stage-%
	$(call PACK,rpm)

sbom: $(addprefix sbom-,$(ARCHITECTURES)) ## write what modules the programs are made of (CycloneDX), into bin/dist

sbom-%: stage-%
	mkdir -p $(DIST) && GOBIN=$(CURDIR)/bin/tools $(GO) install -trimpath $(SBOM)
	for program in podkeeper podkeeper-api; do \
		PATH="$$($(GO) env GOROOT)/bin:$$PATH" GOARCH=$* bin/tools/cyclonedx-gomod bin -json -noserial -notimestamp -version v$(PACKAGE_VERSION) \
			-output $(DIST)/$${program}_$(PACKAGE_VERSION)_$*.cdx.json bin/stage/$*/bin/$$program || exit 1; \
	done

release: setup ## build what a release has, and its checksums, of a tagged commit: bin/release
	hack/package release

# What a package of an architecture holds: bin/stage/ARCHITECTURE/root.
stage-%: VERSION = $(PACKAGE_VERSION)
stage-%: setup docs licenses
	rm -rf bin/stage/$*
	GOARCH=$* $(BUILD) -ldflags '$(LDFLAGS)' -o bin/stage/$*/bin/ ./cmd/...
	@$(MAKE) --no-print-directory lay BINARIES=bin/stage/$*/bin DESTDIR=$(CURDIR)/bin/stage/$*/root PREFIX=/usr UNIT_DIR=/usr/lib/systemd/system
	gzip -9n bin/stage/$*/root/usr/share/man/man1/*.1

test-package: setup ## build the packages twice and compare them, and install, upgrade, remove and purge one in a VM
	hack/package test
	hack/nodetest/run -package

pause: ## build the pause process anew from its sources
	hack/pause

clean: ## remove what was built
	rm -rf bin

setup:
	@hack/setup

.PHONY: help build check fuzz licenses test test-unit test-integration test-service test-selinux test-vm bench-vm chaos bench run test-containerd2 test-controlplane down docs install lay uninstall deb rpm sbom release test-package pause clean setup
