package nodetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// seconds is a moment that systemd took down of the service, since the boot.
func (h *host) seconds(property string) float64 {
	h.t.Helper()
	micro, err := strconv.ParseInt(h.property(property), 10, 64)
	if err != nil || micro == 0 {
		h.t.Fatalf("%s: %d, %v", property, micro, err)
	}
	return float64(micro) / 1e6
}

// TestStartIsMeasuredWithNoPodAndWithTen prints how long the agent takes from its start to READY. Ten Pods that run are
// Ready from the first answer on, and run on.
func TestStartIsMeasuredWithNoPodAndWithTen(t *testing.T) {
	h := open(t)
	h.clear()
	measure := func(pods int) {
		for range 3 {
			h.systemctl("restart", "podkeeper")
			t.Logf("figure: READY after start with %d Pods: %.2f s", pods, h.seconds("ActiveEnterTimestampMonotonic")-h.seconds("ExecMainStartTimestampMonotonic"))
		}
	}
	measure(0)
	names := h.manyPods(10, plainPod)
	before := h.instances()
	measure(len(names))
	pods, err := h.pods()
	if err != nil {
		t.Fatal(err)
	}
	if err := allReady(pods, names); err != nil {
		t.Error(fmt.Errorf("the first answer: %w", err))
	}
	h.undisturbed(before)
}

// booted is how many Pods a boot is measured with.
const booted = 10

// Files that tell the next life how long boots took, in seconds.
const (
	bootFile   = "/var/lib/podkeeper-nodetest/boot"
	byHandFile = "/var/lib/podkeeper-nodetest/boot-by-hand"
)

// TestBootIsAheadOfTenPods prepares for TestBootToTenPodsIsMeasured.
func TestBootIsAheadOfTenPods(t *testing.T) {
	h := open(t)
	h.manyPods(booted, smallPod)
}

// byHand does for ten containers what nobody can do without: a network namespace, an address on a bridge, and a task each, all at
// once.
const byHand = `#!/bin/sh
conf='{"cniVersion": "1.0.0", "name": "hand", "type": "bridge", "bridge": "hand0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
  "ipam": {"type": "host-local", "dataDir": "/run/hand", "ranges": [[{"subnet": "10.98.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}'
one() {
	ip netns add hand$1
	echo "$conf" | CNI_COMMAND=ADD CNI_CONTAINERID=hand$1 CNI_NETNS=/run/netns/hand$1 CNI_IFNAME=eth0 CNI_PATH=/usr/lib/cni /usr/lib/cni/bridge
	ctr -n hand run -d --with-ns network:/run/netns/hand$1 podkeeper.local/demo:v1 app$1 /bin/sleep 100000
}
for i in $(seq %[1]d); do one $i & done
wait
[ "$(ctr -n hand task ls | grep -c RUNNING)" = %[1]d ] && cut -d ' ' -f 1 /proc/uptime >%[2]s
`

// byHandUnit starts them as podkeeper's unit starts podkeeper.
const byHandUnit = `[Unit]
After=containerd.service network.target
Requires=containerd.service
[Service]
Type=oneshot
RemainAfterExit=yes
KillMode=process
ExecStart=/usr/local/bin/by-hand
[Install]
WantedBy=multi-user.target
`

// TestBootToTenPodsIsMeasured takes down when the Pods of the last life are Ready, and prepares for TestBootByHandIsMeasured.
func TestBootToTenPodsIsMeasured(t *testing.T) {
	h := open(t)
	h.ready(manyNames(booted)...)
	uptime, _, _ := strings.Cut(h.read("/proc/uptime"), " ")
	h.write(bootFile, uptime)
	t.Logf("figure: boot to %d Pods Ready: %s s", booted, uptime)

	h.clear()
	h.systemctl("disable", "--now", "podkeeper.service", apiSocket)
	h.run("ctr", "-n", "hand", "image", "import", "/var/lib/podkeeper/images/demo.tar")
	h.write("/usr/local/bin/by-hand", fmt.Sprintf(byHand, booted, byHandFile))
	h.run("chmod", "+x", "/usr/local/bin/by-hand")
	h.write("/etc/systemd/system/by-hand.service", byHandUnit)
	h.systemctl("enable", "by-hand.service")
}

// TestBootByHandIsMeasured sets against that how long it took to the same containers without podkeeper.
func TestBootByHandIsMeasured(t *testing.T) {
	h := disposable(t)
	h.eventually("the containers run", func() error {
		_, err := os.Stat(byHandFile)
		return err
	})
	var took [2]float64
	for i, file := range []string{bootFile, byHandFile} {
		var err error
		if took[i], err = strconv.ParseFloat(strings.TrimSpace(h.read(file)), 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("figure: boot to %d containers by hand: %.2f s; with podkeeper %.2f s, %.2f times that", booted, took[1], took[0], took[0]/took[1])
	h.systemctl("disable", "--now", "by-hand.service")
	for i := range booted {
		_ = exec.Command("ctr", "-n", "hand", "task", "rm", "-f", fmt.Sprintf("app%d", i+1)).Run()
	}
}

// TestFiftyPodsOutliveAnUpgrade has dpkg upgrade and downgrade podkeeper below many Pods.
func TestFiftyPodsOutliveAnUpgrade(t *testing.T) {
	h := disposable(t)
	h.run("sh", "-e", filepath.Join(os.Getenv("PODKEEPER_NODE_FILES"), "uninstall"))
	h.run("dpkg", "-i", deb("1.0.0"))
	h.becomes("ActiveState", "active")
	names := h.manyPods(50, smallPod)
	h.becomesVersion("1.1.0")
	h.becomesVersion("1.0.0")
	t.Logf("figure: %d Pods over an upgrade and a downgrade: %d tasks and pause processes run on", len(names), len(h.tasks()))
}
