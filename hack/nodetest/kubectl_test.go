package nodetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	apiService = "podkeeper-api.service"
	apiSocket  = "podkeeper-api.socket"
	kubeconfig = "/etc/podkeeper/kubeconfig"
	// copied is an administrator's kubeconfig as it was in an earlier life of the host.
	copied = "/var/lib/podkeeper-nodetest/kubeconfig"
)

// kubectl answers what kubectl, which podkeeper brings along, prints. It gives up on a handshake after ten seconds, in which
// the API may not have started here: that is tried again.
func (h *host) kubectl(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for begin := time.Now(); ; {
		out, err := exec.CommandContext(ctx, "podkeeper", append([]string{"kubectl"}, args...)...).CombinedOutput()
		if err != nil && strings.Contains(string(out), "TLS handshake timeout") {
			continue
		}
		h.t.Logf("figure: kubectl %s: %.1f s", args[0], time.Since(begin).Seconds())
		if err != nil {
			err = fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return string(out), err
	}
}

// answers fails the test unless kubectl prints a text.
func (h *host) answers(want string, args ...string) {
	h.t.Helper()
	if out, err := h.kubectl(args...); err != nil || !strings.Contains(out, want) {
		h.t.Errorf("kubectl %s says %q, want %q; %v", strings.Join(args, " "), out, want, err)
	}
}

// apiPID is the pid of the API's process, "0" where none runs.
func (h *host) apiPID() string {
	h.t.Helper()
	return h.propertyOf(apiService, "MainPID")
}

// TestServiceAnswersKubectl asks for Pods, the node, a log and the end of a command. The first request starts what answers,
// which holds nothing but the sockets that it is given.
func TestServiceAnswersKubectl(t *testing.T) {
	h := open(t)
	h.onePodOfEachClass()
	before := h.instances()
	h.systemctl("stop", apiService)
	h.answers("guaranteed   2/2     Running", "get", "pods")
	h.bare(h.apiPID())
	h.answers("Ready", "get", "nodes")
	h.answers("said by an exec", "exec", "burstable", "-c", "app", "--", "sh", "-c", "echo told >/proc/1/fd/1; echo said by an exec")
	h.answers("told", "logs", "burstable", "-c", "app")
	var exit *exec.ExitError
	if _, err := h.kubectl("exec", "burstable", "-c", "app", "--", "sh", "-c", "exit 7"); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("a command that ends with 7: %v", err)
	}
	h.undisturbed(before)
	for _, unit := range []string{apiService, apiSocket} {
		if says := h.output("systemd-analyze", "verify", unit); says != "" {
			t.Errorf("systemd-analyze verify says %s", says)
		}
	}
}

// bare fails the test unless a process is podkeeper-api's, with a network of its own that leads nowhere, and no right that its
// user has not.
func (h *host) bare(pid string) {
	h.t.Helper()
	user := strings.TrimSpace(h.run("id", "-u", "podkeeper-api"))
	group := strings.TrimSpace(h.run("id", "-g", "podkeeper-api"))
	const noCapability = "0000000000000000"
	want := map[string]string{
		"Uid": strings.Repeat("\t"+user, 4)[1:], "Gid": strings.Repeat("\t"+group, 4)[1:], "NoNewPrivs": "1", "Seccomp": "2",
		"CapInh": noCapability, "CapPrm": noCapability, "CapEff": noCapability, "CapBnd": noCapability, "CapAmb": noCapability,
	}
	for line := range strings.Lines(h.read("/proc/" + pid + "/status")) {
		name, value, _ := strings.Cut(line, ":")
		if w, ok := want[name]; ok && strings.TrimSpace(value) != w {
			h.t.Errorf("%s of podkeeper-api is %q, want %q", name, strings.TrimSpace(value), w)
		}
	}
	var interfaces []string
	for line := range strings.Lines(h.read("/proc/" + pid + "/net/dev")) {
		if name, _, ok := strings.Cut(line, ":"); ok {
			interfaces = append(interfaces, strings.TrimSpace(name))
		}
	}
	h.same("network interfaces of podkeeper-api", interfaces, []string{"lo"})
	if got := h.number("/proc/" + pid + "/oom_score_adj"); got != 500 {
		h.t.Errorf("oom_score_adj of podkeeper-api is %d, want 500", got)
	}
}

// TestServiceOfTheAPIEndsWhenNobodyAsks waits for its end, and asks again.
func TestServiceOfTheAPIEndsWhenNobodyAsks(t *testing.T) {
	h := open(t)
	h.onePodOfEachClass()
	dropIn := filepath.Join("/run/systemd/system", apiService+".d", "idle.conf")
	start := h.run("systemctl", "cat", apiService)
	_, start, _ = strings.Cut(start, "ExecStart=")
	start, _, _ = strings.Cut(start, "\n")
	h.write(dropIn, "[Service]\nExecStart=\nExecStart="+start+" --idle 1s\n")
	defer func() {
		if err := os.RemoveAll(filepath.Dir(dropIn)); err != nil {
			t.Error(err)
		}
		h.systemctl("daemon-reload")
		h.systemctl("stop", apiService)
	}()
	h.systemctl("daemon-reload")
	h.systemctl("stop", apiService)
	h.answers("Running", "get", "pods")
	h.eventually("the API ends", func() error {
		if state := h.propertyOf(apiService, "ActiveState"); state != "inactive" {
			return errors.New("it is " + state)
		}
		return nil
	})
	if result := h.propertyOf(apiService, "Result"); result != "success" {
		t.Errorf("it ended with %s", result)
	}
	if state := h.propertyOf(apiSocket, "SubState"); state != "listening" {
		t.Errorf("the socket is %s", state)
	}
	h.answers("Running", "get", "pods")
}

// TestServiceOfTheAPIMayDie kills it, and restarts all as `make install` does: kubectl is answered afterwards, and Pods run on.
func TestServiceOfTheAPIMayDie(t *testing.T) {
	h := open(t)
	h.onePodOfEachClass()
	before := h.instances()
	h.answers("Running", "get", "pods")
	for _, disturbance := range [][]string{
		{"kill", "--kill-whom=main", "-s", "KILL", apiService},
		{"restart", "podkeeper.service", apiSocket},
	} {
		pid := h.apiPID()
		h.systemctl(disturbance...)
		h.eventually("kubectl is answered again", func() error {
			_, err := h.kubectl("get", "pods")
			return err
		})
		if now := h.apiPID(); now == pid || now == "0" {
			t.Errorf("after %q the process is %s, and was %s before", disturbance, now, pid)
		}
		h.undisturbed(before)
	}
}

// TestRebootIsAheadOfTheKubeconfig prepares for TestRebootLeavesTheKubeconfig.
func TestRebootIsAheadOfTheKubeconfig(t *testing.T) {
	h := open(t)
	h.write(copied, h.read(kubeconfig)+"\n")
}

// TestRebootLeavesTheKubeconfig asks with the administrator's, which is that of the former life.
func TestRebootLeavesTheKubeconfig(t *testing.T) {
	h := open(t)
	if h.read(kubeconfig) != h.read(copied) {
		t.Error("the kubeconfig is another one")
	}
	h.answers("podkeeper-vm", "get", "nodes", "--kubeconfig", kubeconfig)
}
