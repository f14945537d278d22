package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const podmanRounds = 5

// podmanConf keeps podman below the temporary folder. The limits are those that a host without CAP_SYS_RESOURCE allows.
const podmanConf = `[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = %q
[network]
network_backend = "cni"
cni_plugin_dirs = [%q]
network_config_dir = %q
`

func podmanBridge() string { return "pkm" + strconv.Itoa(os.Getpid()) }

// podmanCommand is how long one command of podman may take.
const podmanCommand = 30 * time.Second

// podmanNeeds answers what of podman is missing on this host, as packages of the distribution.
func podmanNeeds() []string {
	var missing []string
	for _, need := range []struct{ name, places string }{
		{"podman", ""},
		{"conmon", "/usr/libexec/podman:/usr/local/libexec/podman:/usr/local/lib/podman:/usr/lib/podman"},
		{"catatonit", "/usr/libexec/podman:/usr/lib/podman:/usr/libexec/catatonit:/usr/local/libexec/podman"}, // the Pod's own process
	} {
		_, err := exec.LookPath(need.name)
		for _, place := range filepath.SplitList(need.places) {
			if err != nil {
				_, err = exec.LookPath(filepath.Join(place, need.name))
			}
		}
		if err != nil {
			missing = append(missing, need.name)
		}
	}
	return missing
}

// measurePodman measures the same Pod with podman kube play.
func (b *bench) measurePodman(ctx context.Context) {
	missing := podmanNeeds()
	if len(missing) > 0 && b.installPeers {
		out, err := exec.CommandContext(ctx, "apt-get", append([]string{"install", "-y"}, missing...)...).CombinedOutput()
		if missing = podmanNeeds(); err != nil && len(missing) > 0 {
			b.report.note("podman", "podman", fmt.Sprintf("not measured: install %s: %v: %s", strings.Join(missing, ", "), err, out))
			return
		}
	}
	if len(missing) > 0 {
		b.report.note("podman", "podman", "not measured: without "+strings.Join(missing, ", ")+": -install-peers installs what is missing")
		return
	}
	var took []float64
	b.takeTurns(ctx, 1, contender{"podman", false, func(ctx context.Context) (err error) {
		p, err := b.newPodman(ctx)
		defer func() { err = errors.Join(err, p.clean()) }()
		for range podmanRounds {
			if err != nil {
				return err
			}
			err = b.podmanOne(ctx, p, &took)
		}
		return err
	}})
	b.report.add(Figure{Part: "podman", Name: "podman: kube play → process runs", Unit: "ms", Values: took, Base: "podkeeper", BaseValue: b.alone})
}

func (b *bench) podmanOne(ctx context.Context, p *podman, took *[]float64) error {
	pods := b.names(1)
	file := b.lab.path(pods[0] + ".yaml")
	if err := os.WriteFile(file, b.lab.manifest(pods[0]), 0o644); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	begin := time.Now()
	if err := p.run(ctx, "kube", "play", "--network", "podman", file); err != nil {
		return err
	}
	up, err := b.lab.starts.wait(ctx, pods, begin)
	if err != nil {
		return err
	}
	*took = append(*took, ms(up...)...)
	return p.run(ctx, "kube", "down", file)
}

// podman is podman with its storage in the lab.
type podman struct {
	lab    *lab
	absent []string // folders outside the lab that podman makes and that were not there before
}

// podmanFolders are what podman makes wherever its storage is.
func podmanFolders() []string {
	return []string{"/run/containers", "/run/libpod", "/var/lib/cni", "/var/lib/containers"}
}

// newPodman configures podman and loads the image. What it answers is to be cleaned, with an error too.
func (b *bench) newPodman(ctx context.Context) (*podman, error) {
	p := &podman{lab: b.lab}
	l := b.lab
	for _, dir := range podmanFolders() {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			p.absent = append(p.absent, dir)
		}
	}
	if err := os.MkdirAll(l.path("podman", "net"), 0o755); err != nil {
		return p, fmt.Errorf("configure podman: %w", err)
	}
	network, err := json.Marshal(map[string]any{
		"cniVersion": "0.4.0", "name": "podman",
		"plugins": []map[string]any{{
			"type": "bridge", "bridge": podmanBridge(), "isGateway": true, "hairpinMode": true,
			"ipam": map[string]any{
				"type": "host-local", "dataDir": l.path("podman", "ipam"),
				"ranges": [][]map[string]string{{{"subnet": fmt.Sprintf("10.190.%d.0/24", os.Getpid()%256)}}},
				"routes": []map[string]string{{"dst": "0.0.0.0/0"}},
			},
		}},
	})
	if err != nil {
		return p, fmt.Errorf("configure podman: %w", err)
	}
	conf := fmt.Sprintf(podmanConf, l.path("podman", "tmp"), cniBin, l.path("podman", "net"))
	for file, content := range map[string]string{"containers.conf": conf, "net/87-podman.conflist": string(network)} {
		if err := os.WriteFile(l.path("podman", file), []byte(content), 0o644); err != nil {
			return p, fmt.Errorf("configure podman: %w", err)
		}
	}
	return p, p.run(ctx, "load", "-i", l.archive())
}

// run runs one command of podman.
func (p *podman) run(ctx context.Context, args ...string) error {
	l := p.lab
	ctx, cancel := context.WithTimeout(ctx, podmanCommand)
	defer cancel()
	cmd := exec.CommandContext(ctx, "podman", append([]string{
		"--root", l.path("podman", "root"), "--runroot", l.path("podman", "run"), "--storage-driver", "overlay",
	}, args...)...)
	cmd.WaitDelay = time.Second // what it has started may hold its output
	cmd.Env = append(os.Environ(), "CONTAINERS_CONF="+l.path("podman", "containers.conf"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("podman %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// clean removes podman's Pods, storage and bridge.
func (p *podman) clean() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	errs := []error{p.run(ctx, "pod", "rm", "--all", "--force"), p.run(ctx, "rmi", "--all", "--force"), removeBridge(podmanBridge())}
	for _, dir := range p.absent {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}
