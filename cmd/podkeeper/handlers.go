package main

import (
	"context"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/podkeeper/podkeeper/cgroups"
	"github.com/podkeeper/podkeeper/runtime"
)

const crun = "crun"

// parseHandlers reads --runtime-handler NAME=TYPE[,BinaryName=PATH].
func parseHandlers(args []string) (map[string]runtime.Handler, error) {
	handlers := map[string]runtime.Handler{}
	if path, err := exec.LookPath(crun); err == nil {
		handlers[crun] = runtime.Handler{Type: "io.containerd.runc.v2", BinaryName: path}
	}
	for _, arg := range args {
		name, rest, ok := strings.Cut(arg, "=")
		kind, option, more := strings.Cut(rest, ",")
		binary, isBinary := strings.CutPrefix(option, "BinaryName=")
		if !ok || name == "" || kind == "" || more && (!isBinary || binary == "") {
			return nil, fmt.Errorf("--runtime-handler %s: must be NAME=TYPE[,BinaryName=PATH], such as crun=io.containerd.runc.v2,BinaryName=/usr/bin/crun", arg)
		}
		handlers[name] = runtime.Handler{Type: kind, BinaryName: binary}
	}
	return handlers, nil
}

// chooseHandler answers the runtime handler of Pods that ask for none: the one that was asked for, else crun where it is
// there and runs, for it is the faster one and knows cgroup v2 well, else runc. Where systemd makes the cgroups it is runc:
// Debian 12's crun tells systemd no limits, and so the next daemon-reload takes them away.
func chooseHandler(asked string, known map[string]runtime.Handler, cgroupVersion, driver string, runs func(program string) bool) (string, error) {
	if asked != "" {
		if _, ok := known[asked]; !ok && asked != runtime.Runc {
			names := slices.Sorted(maps.Keys(known))
			return "", fmt.Errorf("--default-runtime-handler %s: is not known: must be %s, or be named by --runtime-handler", asked, strings.Join(append(names, runtime.Runc), ", "))
		}
		return asked, nil
	}
	if h, ok := known[crun]; ok && cgroupVersion == "v2" && driver != string(cgroups.Systemd) && runs(h.BinaryName) {
		return crun, nil
	}
	return runtime.Runc, nil
}

// programRuns says whether an OCI runtime runs on this host at all.
func programRuns(program string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return exec.CommandContext(ctx, program, "--version").Run() == nil
}
