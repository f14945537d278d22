package nodetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestServiceIsReadyAndTellsItsStatus looks at what systemd knows of the service.
func TestServiceIsReadyAndTellsItsStatus(t *testing.T) {
	h := open(t)
	h.onePodOfEachClass()
	h.becomes("StatusText", "3 Pods running")
	for property, want := range map[string]string{"Type": "notify", "ActiveState": "active", "UnitFileState": "enabled", "Delegate": "yes", "KillMode": "process"} {
		if got := h.property(property); got != want {
			t.Errorf("%s is %s, want %s", property, got, want)
		}
	}
	if got := h.number("/proc/" + h.property("MainPID") + "/oom_score_adj"); got != -999 {
		t.Errorf("oom_score_adj of the agent is %d, want -999", got)
	}
	if says := h.output("systemd-analyze", "verify", "podkeeper.service"); says != "" {
		t.Errorf("systemd-analyze verify says %s", says)
	}
}

// instance is what must not change of a container that runs on.
type instance struct {
	task     task
	restarts int32
}

// instances are all containers, and the pause processes, that run.
func (h *host) instances() map[string]instance {
	h.t.Helper()
	pods, err := h.pods()
	if err != nil {
		h.t.Fatal(err)
	}
	found := map[string]instance{}
	for name, task := range h.tasks() {
		found[name] = instance{task: task}
	}
	for _, p := range pods {
		for _, s := range statuses(p) {
			name := p.Name + "/" + s.Name
			found[name] = instance{task: found[name].task, restarts: s.RestartCount}
		}
	}
	return found
}

// undisturbed fails the test unless the same processes run on, none of them restarted.
func (h *host) undisturbed(before map[string]instance) {
	h.t.Helper()
	if after := h.instances(); !maps.Equal(before, after) {
		h.t.Errorf("containers did not run on: before %+v, after %+v", before, after)
	}
}

// alive fails the test where a process has ended, also while no agent can be asked.
func (h *host) alive(before map[string]instance) {
	h.t.Helper()
	for name, i := range before {
		if i.task.pid == 0 {
			continue // an init container that is done
		}
		if err := syscall.Kill(i.task.pid, 0); err != nil {
			h.t.Errorf("process %d of %s: %v", i.task.pid, name, err)
		}
	}
}

// restarts kills a container's process, and waits until the agent has started it again.
func (h *host) restarts(name string) {
	h.t.Helper()
	before := h.instances()[name]
	if err := syscall.Kill(before.task.pid, syscall.SIGKILL); err != nil {
		h.t.Fatalf("kill %s: %v", name, err)
	}
	h.eventually(name+" is started again", func() error {
		pods, err := h.pods()
		if err != nil {
			return err
		}
		pod, container, _ := strings.Cut(name, "/")
		for _, s := range statuses(pods[pod]) {
			if s.Name == container && s.RestartCount == before.restarts+1 && s.State.Running != nil {
				return allReady(pods, classes)
			}
		}
		return fmt.Errorf("%+v", pods[pod].Status)
	})
}

// TestServiceLetsContainersRunOn kills and restarts the agent and containerd: no process of a Pod notices, from the
// first answer on the Pods are Ready, and what ends afterwards is restarted.
func TestServiceLetsContainersRunOn(t *testing.T) {
	for _, disturbance := range []struct {
		name   string
		do     func(*host)
		victim string // killed afterwards; another one each time, as restarts back off
	}{
		{"while the agent is restarted", func(h *host) { h.systemctl("restart", "podkeeper") }, "guaranteed/app"},
		{"while containerd is restarted", func(h *host) { h.systemctl("restart", "containerd") }, "burstable/app"},
		{"while the agent is killed", (*host).killAgent, "besteffort/app"},
		{"while containerd is killed", (*host).killContainerd, "guaranteed/side"},
		{"while both are killed", func(h *host) { h.killContainerd(); h.killAgent() }, "burstable/side"},
		{"while the agent is stopped", func(h *host) {
			before := h.instances()
			h.systemctl("stop", "podkeeper")
			h.alive(before)
			h.systemctl("start", "podkeeper")
		}, "besteffort/side"},
	} {
		t.Run(disturbance.name, func(t *testing.T) {
			h := open(t)
			h.onePodOfEachClass()
			before := h.instances()
			disturbance.do(h)
			if pods, err := h.pods(); err != nil || allReady(pods, classes) != nil {
				t.Errorf("the first answer: %v, %v", err, allReady(pods, classes))
			}
			h.undisturbed(before)
			h.restarts(disturbance.victim)
		})
	}
}

// killAgent kills it, and waits until systemd has started another one.
func (h *host) killAgent() {
	h.t.Helper()
	pid := h.property("MainPID")
	h.systemctl("kill", "--kill-whom=main", "-s", "KILL", "podkeeper")
	h.another(pid)
}

// another waits until another agent is READY.
func (h *host) another(pid string) {
	h.t.Helper()
	h.eventually("systemd starts another agent", func() error {
		if now := h.property("MainPID"); now == pid || now == "0" {
			return fmt.Errorf("its pid is %s", now)
		}
		return nil
	})
	h.becomes("ActiveState", "active")
}

// killContainerd kills it, and waits until systemd has started another one.
func (h *host) killContainerd() {
	h.t.Helper()
	show := func() string {
		return strings.TrimSpace(h.run("systemctl", "show", "--value", "-p", "MainPID", "containerd"))
	}
	pid := show()
	h.systemctl("kill", "--kill-whom=main", "-s", "KILL", "containerd")
	h.eventually("systemd starts another containerd", func() error {
		if now := show(); now == pid || now == "0" {
			return fmt.Errorf("its pid is %s", now)
		}
		if state := strings.TrimSpace(h.output("systemctl", "is-active", "containerd")); state != "active" {
			return errors.New("it is " + state)
		}
		return nil
	})
}

// TestServiceRunsNoPodAnewForAConfiguration reloads a good configuration, which is followed, and a bad one, which is
// not.
func TestServiceRunsNoPodAnewForAConfiguration(t *testing.T) {
	h := open(t)
	h.onePodOfEachClass()
	before, pid, installed := h.instances(), h.property("MainPID"), h.read(configFile)
	defer func() { h.reload(installed+"\n", "agent starts anew") }()
	h.reload(installed+"\ncontentType: application/json\n", "contentType: not supported: remove it")
	h.reload(installed+"\ncontainerLogMaxFiles: 3\n", "agent starts anew")
	h.eventually("what ran is taken over", func() error {
		_, err := h.pods()
		return err
	})
	h.undisturbed(before)
	if now := h.property("MainPID"); now != pid {
		t.Errorf("another agent runs, %s instead of %s", now, pid)
	}
	h.becomes("ActiveState", "active")
	h.becomes("StatusText", "3 Pods running")
}

// reload has the service read a configuration, and waits for what it says to that.
func (h *host) reload(config, told string) {
	h.t.Helper()
	cursor := h.cursor()
	h.write(configFile, config)
	h.systemctl("reload", "podkeeper")
	h.eventually("the journal says "+told, func() error {
		if says := h.run("journalctl", "-u", "podkeeper", "-o", "cat", "--after-cursor", cursor); !strings.Contains(says, told) {
			return fmt.Errorf("it says %q", says)
		}
		return nil
	})
}

// cursor is where the journal ends now.
func (h *host) cursor() string {
	h.t.Helper()
	_, cursor, _ := strings.Cut(h.run("journalctl", "-n", "0", "--show-cursor", "--no-pager"), "-- cursor: ")
	return strings.TrimSpace(cursor)
}

// TestServiceComesBackWhenItsConfigurationIsMended starts the agent with a broken one, more often than systemd would
// try by default.
func TestServiceComesBackWhenItsConfigurationIsMended(t *testing.T) {
	h := open(t)
	h.onePodOfEachClass()
	before, installed := h.instances(), h.read(configFile)
	defer h.write(configFile, installed+"\n")
	h.write(configFile, "kind: Nonsense\n")
	h.systemctl("kill", "--kill-whom=main", "-s", "KILL", "podkeeper")
	h.eventually("systemd tries again and again", func() error {
		if tries, err := strconv.Atoi(h.property("NRestarts")); err != nil || tries < 8 {
			return fmt.Errorf("it tried %d times: %w, %s", tries, err, h.property("Result"))
		}
		return nil
	})
	h.write(configFile, installed+"\n")
	h.becomes("ActiveState", "active")
	h.undisturbed(before)
}

// TestServiceIsEndedByTheWatchdogWhenItHangs stops the agent's process for ever.
func TestServiceIsEndedByTheWatchdogWhenItHangs(t *testing.T) {
	h := open(t)
	h.onePodOfEachClass()
	const dropIn = "/run/systemd/system/podkeeper.service.d/watchdog.conf"
	h.write(dropIn, "[Service]\nWatchdogSec=15\n")
	defer func() {
		if err := os.RemoveAll(filepath.Dir(dropIn)); err != nil {
			t.Error(err)
		}
		h.systemctl("daemon-reload")
		h.systemctl("restart", "podkeeper")
	}()
	h.systemctl("daemon-reload")
	h.systemctl("restart", "podkeeper")
	before, pid, cursor := h.instances(), h.property("MainPID"), h.cursor()
	h.systemctl("kill", "--kill-whom=main", "-s", "STOP", "podkeeper")
	h.another(pid)
	if says := h.run("journalctl", "-u", "podkeeper", "-o", "cat", "--after-cursor", cursor); !strings.Contains(says, "Watchdog timeout") {
		t.Errorf("the journal does not tell of the watchdog: %s", says)
	}
	h.undisturbed(before)
}

// TestServiceWhenTheClockIsAnHourOff sets it forward and back, and back and forward: no Pod notices, and containers that end before
// and after each are restarted as soon as ever.
func TestServiceWhenTheClockIsAnHourOff(t *testing.T) {
	h := open(t)
	h.onePodOfEachClass()
	before, since := h.instances(), h.readySince()
	set := func(by time.Duration, restarted string) {
		now := unix.NsecToTimeval(time.Now().Add(by).UnixNano())
		if err := unix.Settimeofday(&now); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second) // of what must not happen
		h.undisturbed(before)
		for name, then := range h.readySince() {
			if was := since[name]; !was.Equal(&then) {
				t.Errorf("the clock was set by %v: %s is Ready since %v, before it was since %v", by, name, then, was)
			}
		}
		h.restarts(restarted)
		before, since = h.instances(), h.readySince()
	}
	set(time.Hour, "besteffort/app")
	set(-time.Hour, "besteffort/app")
	set(-time.Hour, "burstable/app")
	set(time.Hour, "burstable/app")
}

// TestServiceGivesAPodUsersOfItsOwn has the hardened unit make a user namespace, and mounts that are mapped into it.
func TestServiceGivesAPodUsersOfItsOwn(t *testing.T) {
	h := open(t)
	h.apply(classesFile, "apiVersion: v1\nkind: Pod\nmetadata: {name: users}\nspec:\n  hostUsers: false\n  terminationGracePeriodSeconds: 2\n"+
		"  volumes: [{name: disk, emptyDir: {}}]\n  containers:\n"+container("app", "echo x >/disk/x; "+forever, "", ", volumeMounts: [{name: disk, mountPath: /disk}]"))
	p := h.ready("users")["users"]
	ids := strings.Fields(h.read(fmt.Sprintf("/proc/%d/uid_map", h.tasks()["users/app"].pid)))
	if first, err := strconv.Atoi(ids[1]); err != nil || ids[0] != "0" || first < 1<<16 || ids[2] != "65536" {
		t.Errorf("the ids of the container are mapped as %q", ids)
	}
	var file unix.Stat_t
	if err := unix.Stat("/var/lib/podkeeper/pods/"+string(p.UID)+"/volumes/kubernetes.io~empty-dir/disk/x", &file); err != nil || file.Uid != 0 {
		t.Errorf("in the volume of the Pod its root is user %d of the host: %v", file.Uid, err)
	}
}

// TestServiceLogsWithFields finds what concerns one container by the journal's fields.
func TestServiceLogsWithFields(t *testing.T) {
	h := open(t)
	h.onePodOfEachClass()
	h.apply("unfit.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: unfit}\nspec: {contaienrs: []}\n")
	defer h.ready(classes...)
	defer os.Remove(filepath.Join(manifestDir, "unfit.yaml"))
	entries := func(matches ...string) []map[string]any {
		var found []map[string]any
		for line := range strings.Lines(h.run("journalctl", append([]string{"-b", "-o", "json", "--no-pager"}, matches...)...)) {
			entry := map[string]any{}
			if err := json.Unmarshal([]byte(line), &entry); err != nil {
				t.Fatal(err)
			}
			found = append(found, entry)
		}
		return found
	}
	const info, fault = "6", "3"
	of := entries("POD=default/burstable", "CONTAINER=app")
	if len(of) == 0 {
		t.Fatal("no entry has POD=default/burstable and CONTAINER=app")
	}
	for _, e := range of {
		if e["_SYSTEMD_UNIT"] != "podkeeper.service" || e["PRIORITY"] != info {
			t.Errorf("an entry is of %v with priority %v: %v", e["_SYSTEMD_UNIT"], e["PRIORITY"], e["MESSAGE"])
		}
	}
	h.eventually("the refusal is an error in the journal", func() error {
		for _, e := range entries("_SYSTEMD_UNIT=podkeeper.service", "PRIORITY="+fault) {
			if strings.Contains(fmt.Sprint(e["MESSAGE"]), "contaienrs") {
				return nil
			}
		}
		return errors.New("it is not there")
	})
}

// TestServiceLeavesPodsWhenItIsUninstalled runs what `make uninstall` runs, and installs the service anew.
func TestServiceLeavesPodsWhenItIsUninstalled(t *testing.T) {
	h := open(t)
	h.onePodOfEachClass()
	h.systemctl("start", apiService)
	before := h.instances()
	h.run("sh", "-e", filepath.Join(os.Getenv("PODKEEPER_NODE_FILES"), "uninstall"))
	for _, unit := range []string{"podkeeper.service", apiService, apiSocket} {
		if load, active := h.propertyOf(unit, "LoadState"), h.propertyOf(unit, "ActiveState"); load != "not-found" || active != "inactive" {
			t.Errorf("%s is %s and %s", unit, load, active)
		}
	}
	for _, program := range []string{"podkeeper", "podkeeper-api"} {
		if _, err := os.Stat("/usr/local/bin/" + program); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is there: %v", program, err)
		}
	}
	h.alive(before)
	if _, err := os.Stat(filepath.Join(manifestDir, classesFile)); err != nil {
		t.Error(err)
	}
	if err := h.client.Healthy(context.Background()); err == nil {
		t.Error("an agent answers")
	}
	h.install()
	h.undisturbed(before)
	h.restarts("guaranteed/app")
}
