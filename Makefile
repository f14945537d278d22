# podkeeper: `make help` lists the targets.
SHELL := /bin/bash
GO := hack/go
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
# containerd 2, built from the module that the client is from, where the tests find it.
CONTAINERD2 := PODKEEPER_TEST_CONTAINERD=$(CURDIR)/bin/containerd2
CONTAINERD2_TOOLS := $(addprefix github.com/containerd/containerd/v2/cmd/,containerd containerd-shim-runc-v2)
UNITS := podkeeper.service podkeeper-api.socket
SHARE := $(DESTDIR)/usr/local/share
BUILD := CGO_ENABLED=0 $(GO) build
# kubectl says the version of the Kubernetes that it is of.
KUBERNETES = $(shell $(GO) list -m -f '{{.Version}}' k8s.io/kubernetes)

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 20

build: setup ## build bin/podkeeper and bin/podkeeper-api
	$(BUILD) -ldflags '-s -w -X main.version=$(VERSION) -X k8s.io/component-base/version.gitVersion=$(KUBERNETES)' -o bin/ ./cmd/...

check: setup ## run the linters
	$(GO) vet -tags docs,profile ./...
	$(GO) run $(LINT) run --allow-parallel-runners ./...

test: check test-unit test-integration test-containerd2 test-service ## install what is missing, and run every test

test-unit: setup ## run the tests that need no containerd
	$(GO) test -race -short -tags docs ./...

test-integration: setup ## run the tests on a real containerd, CNI and cgroups, as root (CONTAINERD=2: on containerd 2)
	$(if $(CONTAINERD),mkdir -p bin/containerd2 && $(GO) build -o bin/containerd2/ $(CONTAINERD2_TOOLS))
	$(if $(CONTAINERD),$(CONTAINERD2)) $(GO) test -count=1 -parallel 4 -timeout 30m $(if $(RUN),-run '$(RUN)') ./cmd/podkeeper

test-containerd2: ## run a short selection of them on containerd 2; all of them: make test-integration CONTAINERD=2
	$(MAKE) test-integration CONTAINERD=2 RUN='Example|Sees|Termination|PullPolicies|ContainerdDies'

test-service: setup ## run the systemd service and its Pods in a VM, over kills and one reboot; skips where there can be no VM
	hack/nodetest/run

test-vm: setup ## run all tests in VMs: cgroup v2, both cgroup drivers, crun, the service, ten reboots; takes more than an hour
	hack/vm/selftest
	hack/vm/gotest -t 3600 $$($(GO) list ./... | grep -v -e /cmd/ -e /hack/)
	hack/nodetest/run -integration cgroupfs -test.parallel 2
	hack/nodetest/run -integration systemd -test.parallel 2
	hack/nodetest/run -long

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
	install -D -m 755 -t $(DESTDIR)/usr/local/bin bin/podkeeper*
	install -D -m 644 -t $(SHARE)/man/man1 bin/man/*.1
	install -D -m 644 -t $(SHARE)/bash-completion/completions bin/completions/podkeeper
	install -D -m 644 -t $(SHARE)/zsh/site-functions bin/completions/_podkeeper
	install -D -m 644 -t $(SHARE)/fish/vendor_completions.d bin/completions/podkeeper.fish
	install -D -m 644 -t $(DESTDIR)/etc/systemd/system packaging/podkeeper.service packaging/podkeeper-api.socket packaging/podkeeper-api.service
	install -D -m 644 packaging/podkeeper.sysusers $(DESTDIR)/usr/lib/sysusers.d/podkeeper.conf
	install -D -m 644 -t $(SHARE)/podkeeper packaging/prometheus-alerts.yaml packaging/grafana-dashboard.json
	install -d -m 755 $(DESTDIR)/etc/podkeeper/manifests
	[ -e $(DESTDIR)/etc/podkeeper/config.yaml ] || install -m 644 packaging/config.yaml $(DESTDIR)/etc/podkeeper/config.yaml
	[ -e $(DESTDIR)/etc/podkeeper/kubeconfig ] || ln -sfn /var/lib/podkeeper/kubeconfig $(DESTDIR)/etc/podkeeper/kubeconfig
	[ -n "$(DESTDIR)" ] || { systemd-sysusers podkeeper.conf && systemctl daemon-reload && systemctl enable $(UNITS) && systemctl restart $(UNITS); }

uninstall: ## stop the service and remove it; Pods run on, and manifests and data stay
	[ -n "$(DESTDIR)" ] || systemctl disable --now $(UNITS)
	rm -f $(DESTDIR)/usr/local/bin/podkeeper $(DESTDIR)/usr/local/bin/podkeeper-api $(DESTDIR)/usr/lib/sysusers.d/podkeeper.conf
	rm -f $(DESTDIR)/etc/systemd/system/podkeeper.service $(DESTDIR)/etc/systemd/system/podkeeper-api.socket $(DESTDIR)/etc/systemd/system/podkeeper-api.service
	[ ! -L $(DESTDIR)/etc/podkeeper/kubeconfig ] || rm $(DESTDIR)/etc/podkeeper/kubeconfig
	rm -f $(SHARE)/man/man1/podkeeper.1 $(SHARE)/man/man1/podkeeper-*.1 $(SHARE)/fish/vendor_completions.d/podkeeper.fish
	rm -f $(SHARE)/bash-completion/completions/podkeeper $(SHARE)/zsh/site-functions/_podkeeper
	rm -rf $(SHARE)/podkeeper
	[ -n "$(DESTDIR)" ] || systemctl daemon-reload

pause: ## build the pause process anew from its sources
	hack/pause

clean: ## remove what was built
	rm -rf bin

setup:
	@hack/setup

.PHONY: help build check test test-unit test-integration test-service test-vm bench run test-containerd2 down docs install uninstall pause clean setup
