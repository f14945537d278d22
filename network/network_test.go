package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

const pluginFolder = "/usr/lib/cni"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open makes a network of its own, which is gone after the test.
func open(t testing.TB, change func(*Config)) *Network {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	for _, plugin := range []string{"bridge", "host-local", "portmap"} {
		if _, err := os.Stat(filepath.Join(pluginFolder, plugin)); err != nil {
			t.Skipf("needs CNI plugins: %v", err)
		}
	}
	folder := t.TempDir()
	cfg := Config{
		ConfDir: filepath.Join(folder, "conf"), BinDir: pluginFolder, RunDir: filepath.Join(folder, "run"),
		StateDir: filepath.Join(folder, "state"), Name: fmt.Sprintf("pkt%06d", os.Getpid()%1000000) + fmt.Sprint(hash(t.Name())%100),
	}
	if change != nil {
		change(&cfg)
	}
	n, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.GC(context.Background(), nothing); err != nil {
			t.Error(err)
		}
		if err := n.Destroy(); err != nil {
			t.Error(err)
		}
		if _, err := netlink.LinkByName(n.bridge); err == nil {
			t.Errorf("bridge %s is left", n.bridge)
		}
		n.noRules(t)
	})
	return n
}

// noRules fails the test where something of the network is left in iptables.
func (n *Network) noRules(t testing.TB) {
	t.Helper()
	out, err := exec.Command("iptables-save").CombinedOutput()
	if err != nil || strings.Contains(string(out), n.chain()) {
		t.Errorf("a chain or a rule is left, or cannot be told: %v:\n%s", err, out)
	}
}

// way is how a network is made: by ourselves, or by the plugins of a configuration.
type way func(t testing.TB, change func(*Config)) *Network

// eachWay runs a test with the built-in network, and with the same network as a user would write it.
func eachWay(t *testing.T, f func(t *testing.T, open way)) {
	t.Run("built-in", func(t *testing.T) { f(t, open) })
	t.Run("written by a user", func(t *testing.T) { f(t, openWritten) })
}

// openWritten makes a network of its own, for which there is a configuration.
func openWritten(t testing.TB, change func(*Config)) *Network {
	t.Helper()
	n := open(t, change)
	bridge := writtenBridge(n)
	t.Cleanup(func() { // before the network is checked
		if err := n.GC(context.Background(), nothing); err != nil {
			t.Error(err)
		}
		if link, err := netlink.LinkByName(bridge); err == nil {
			if err := netlink.LinkDel(link); err != nil {
				t.Error(err)
			}
		}
	})
	writeConf(t, n, "10-written.conflist", pluginList(t, "written", bridge, filepath.Join(n.cfg.StateDir, "written"), n.cfg.Subnet))
	return n
}

func writtenBridge(n *Network) string { return n.cfg.Name + "u" }

// pluginList is the built-in network as a configuration, as earlier agents had it, too.
func pluginList(t testing.TB, name, bridge, leases string, subnet netip.Prefix) string {
	t.Helper()
	b, err := json.Marshal(map[string]any{
		"cniVersion": "1.0.0", "name": name,
		"plugins": []map[string]any{
			{
				"type": "bridge", "bridge": bridge, "isGateway": true, "hairpinMode": true, "promiscMode": false,
				"ipam": map[string]any{
					"type": "host-local", "dataDir": leases, "ranges": [][]map[string]string{{{"subnet": subnet.String()}}},
					"routes": []map[string]string{{"dst": "0.0.0.0/0"}},
				},
			},
			{"type": "portmap", "capabilities": map[string]bool{"portMappings": true}, "snat": true},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func sandbox(id string) Sandbox {
	return Sandbox{ID: id, PodNamespace: "default", PodName: "web", PodUID: "u-" + id}
}

func add(t testing.TB, n *Network, s Sandbox) netip.Addr {
	t.Helper()
	if err := n.CreateNetNS(s.ID); err != nil {
		t.Fatal(err)
	}
	ips, err := n.Add(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	if len(ips) != 1 || !ips[0].Is4() {
		t.Fatalf("got addresses %v, want one IPv4", ips)
	}
	return ips[0]
}

func leaseCount(t testing.TB, n *Network) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(n.cfg.StateDir, "*", "*", "[0-9]*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

func TestPodsReachEachOther(t *testing.T) {
	eachWay(t, func(t *testing.T, open way) {
		n := open(t, nil)
		ctx := context.Background()
		a, b := sandbox("a1"), sandbox("b1")
		ipA, ipB := add(t, n, a), add(t, n, b)
		if ipA == ipB || !n.cfg.Subnet.Contains(ipA) || !n.cfg.Subnet.Contains(ipB) {
			t.Fatalf("got %s and %s, want two of %s", ipA, ipB, n.cfg.Subnet)
		}
		if again := add(t, n, a); again != ipA {
			t.Errorf("added again: got %s, want %s", again, ipA)
		}
		if leaseCount(t, n) != 2 {
			t.Errorf("got %d leases, want 2", leaseCount(t, n))
		}
		inNamespace(t, n.NetNS("a1"), func() {
			lo, err := netlink.LinkByName("lo")
			if err != nil || lo.Attrs().Flags&1 == 0 {
				t.Errorf("loopback: %v, %v: want it up", lo, err)
			}
		})
		serve(t, n.NetNS("b1"), ipB, 80)
		if got := ask(t, n.NetNS("a1"), ipB, 80); got != ipA {
			t.Errorf("the neighbour sees %v, want %v", got, ipA)
		}
		if got := ask(t, n.NetNS("b1"), ipB, 80); got != ipB {
			t.Errorf("it sees itself as %v, want %v", got, ipB)
		}
		for range 2 {
			if err := n.Remove(ctx, a); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := os.Stat(n.NetNS("a1")); !os.IsNotExist(err) {
			t.Errorf("the pin of a1 is left: %v", err)
		}
		if leaseCount(t, n) != 1 {
			t.Errorf("after removing one: got %d leases, want 1", leaseCount(t, n))
		}
	})
}

// inNamespace runs f on a thread that is in a network namespace.
func inNamespace(t *testing.T, path string, f func()) {
	t.Helper()
	done := make(chan error)
	go func() { done <- within(path, f) }()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestAHostPortLeadsIntoThePod(t *testing.T) {
	eachWay(t, func(t *testing.T, open way) {
		n := open(t, nil)
		s := sandbox("p1")
		s.Ports = []Port{{HostPort: 38080, ContainerPort: 80, Protocol: "TCP"}}
		ip := add(t, n, s)
		nat := func() string {
			out, err := exec.Command("iptables-save", "-t", "nat").CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			return string(out)
		}
		if want := fmt.Sprintf("--to-destination %s:80", ip); !strings.Contains(nat(), want) {
			t.Errorf("no rule %q in\n%s", want, nat())
		}
		if err := n.Remove(context.Background(), s); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(nat(), "38080") {
			t.Errorf("a rule is left:\n%s", nat())
		}
	})
}

func TestRemoveWhenMuchIsGone(t *testing.T) {
	eachWay(t, func(t *testing.T, open way) {
		ctx := context.Background()
		t.Run("the namespace was unpinned by someone else", func(t *testing.T) {
			n := open(t, nil)
			add(t, n, sandbox("r1"))
			if err := n.unpin("r1"); err != nil {
				t.Fatal(err)
			}
			if err := n.Remove(ctx, sandbox("r1")); err != nil || leaseCount(t, n) != 0 {
				t.Errorf("got %v, %d leases", err, leaseCount(t, n))
			}
		})
		t.Run("libcni's record is lost", func(t *testing.T) {
			n := open(t, nil)
			add(t, n, sandbox("r2"))
			if err := os.RemoveAll(filepath.Join(n.cfg.StateDir, "results")); err != nil {
				t.Fatal(err)
			}
			if err := n.Remove(ctx, sandbox("r2")); err != nil || leaseCount(t, n) != 0 {
				t.Errorf("got %v, %d leases", err, leaseCount(t, n))
			}
		})
		t.Run("nothing was ever added", func(t *testing.T) {
			if err := open(t, nil).Remove(ctx, sandbox("r3")); err != nil {
				t.Error(err)
			}
		})
		t.Run("an empty id means nobody, not everybody", func(t *testing.T) {
			n := open(t, nil)
			add(t, n, sandbox("r4"))
			if err := n.Remove(ctx, sandbox("")); err == nil || leaseCount(t, n) != 1 {
				t.Errorf("got %v, %d leases, want an error and 1", err, leaseCount(t, n))
			}
		})
		t.Run("the configuration was broken meanwhile", func(t *testing.T) {
			n := open(t, nil)
			add(t, n, sandbox("r5"))
			writeConf(t, n, "10-written.conflist", "{")
			if err := n.Remove(ctx, sandbox("r5")); err != nil || leaseCount(t, n) != 0 {
				t.Errorf("got %v, %d leases", err, leaseCount(t, n))
			}
			if err := os.RemoveAll(n.cfg.ConfDir); err != nil {
				t.Fatal(err)
			}
		})
	})
}

func TestANamespaceLostInARebootIsAddedAnew(t *testing.T) {
	eachWay(t, func(t *testing.T, open way) {
		n := open(t, nil)
		add(t, n, sandbox("x1"))
		if err := n.unpin("x1"); err != nil {
			t.Fatal(err)
		}
		ip := add(t, n, sandbox("x1"))
		if !n.hasInterface("x1") || leaseCount(t, n) != 1 {
			t.Errorf("%s: interface %v, %d leases", ip, n.hasInterface("x1"), leaseCount(t, n))
		}
	})
}

func TestGCFreesWhatIsNotKept(t *testing.T) {
	eachWay(t, func(t *testing.T, open way) {
		n := open(t, nil)
		ctx := context.Background()
		for _, id := range []string{"keep", "gone"} {
			add(t, n, sandbox(id))
		}
		if err := n.CreateNetNS("pin-only"); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := n.GC(ctx, func(id string) bool { return id == "keep" }); err != nil {
				t.Fatal(err)
			}
		}
		pins, err := os.ReadDir(filepath.Join(n.cfg.RunDir, "netns"))
		if err != nil || len(pins) != 1 || pins[0].Name() != "keep" {
			t.Errorf("pins: %v, %v", pins, err)
		}
		if leaseCount(t, n) != 1 || !n.hasInterface("keep") {
			t.Errorf("got %d leases, want 1; keep has its interface: %v", leaseCount(t, n), n.hasInterface("keep"))
		}
	})
}

// A /29 has five addresses: a leak would show.
func TestAddressesAreNotLost(t *testing.T) {
	eachWay(t, func(t *testing.T, open way) {
		n := open(t, func(c *Config) { c.Subnet = netip.MustParsePrefix("10.193.77.8/29") })
		for i := range 8 {
			s := sandbox(fmt.Sprintf("l%d", i))
			add(t, n, s)
			if err := n.Remove(context.Background(), s); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func writeConf(t testing.TB, n *Network, name, content string) {
	t.Helper()
	if err := os.MkdirAll(n.cfg.ConfDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.cfg.ConfDir, name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestAConfigurationThatAppearsIsUsedForTheNextPod(t *testing.T) {
	n := open(t, nil)
	if got := n.Describe(); !strings.Contains(got, "built-in") {
		t.Errorf("without a configuration: got %q", got)
	}
	first := sandbox("c1")
	ip := add(t, n, first)
	conf, err := json.Marshal(map[string]any{
		"cniVersion": "1.0.0", "name": "lonely",
		"plugins": []map[string]any{{"type": "ptp", "ipam": map[string]any{
			"type": "host-local", "dataDir": filepath.Join(n.cfg.StateDir, "other"), "ranges": [][]map[string]string{{{"subnet": "10.193.78.0/28"}}},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	writeConf(t, n, "10-lonely.conflist", string(conf))
	if got := n.Describe(); got != "lonely" {
		t.Errorf("with a configuration: got %q, want lonely", got)
	}
	if ip := add(t, n, sandbox("c2")); ip.As4()[2] != 78 {
		t.Errorf("got %s, want one of the configuration's", ip)
	}
	if got := add(t, n, first); got != ip {
		t.Errorf("the first one has %s, want the address that it had, %s", got, ip)
	}
	if err := n.Remove(context.Background(), first); err != nil {
		t.Fatal(err)
	}
	if left, err := n.leases.all(); err != nil || len(left) > 0 {
		t.Errorf("the first one is removed from its own network: got %v, %v", left, err)
	}
}

func TestWhichConfigurationIsUsed(t *testing.T) {
	t.Parallel()
	list := `{"cniVersion":"1.0.0","name":"%s","plugins":[{"type":"bridge"}]}`
	for sentence, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"none means the built-in one":            {nil, "podkeeper (built-in"},
		"the first by name":                      {map[string]string{"20.conflist": fmt.Sprintf(list, "b"), "10.conflist": fmt.Sprintf(list, "a")}, "a"},
		"a broken one is skipped":                {map[string]string{"10.conflist": "{", "20.conflist": fmt.Sprintf(list, "b")}, "b"},
		"only broken ones are an error":          {map[string]string{"10.conflist": "{"}, "none: read network configuration"},
		"a single plugin will do":                {map[string]string{"10.conf": `{"cniVersion":"1.0.0","name":"one","type":"bridge"}`}, "one"},
		"other files are no configurations":      {map[string]string{"README": "x", "10.conflist.bak": "{"}, "podkeeper (built-in"},
		"a list in a file for one is an error":   {map[string]string{"10.conf": fmt.Sprintf(list, "a")}, "none: read network configuration"},
		"a list without plugins is not accepted": {map[string]string{"10.conflist": `{"cniVersion":"1.0.0","name":"x","plugins":[]}`}, "none: read network configuration"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			n, err := Open(Config{ConfDir: folder, BinDir: "/none", RunDir: folder, StateDir: folder})
			if err != nil {
				t.Fatal(err)
			}
			for name, content := range c.files {
				writeConf(t, n, name, content)
			}
			if got := n.Describe(); !strings.HasPrefix(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestNamesAndSubnets(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"podkeeper": "podkeeper0", "a-network-with-a-long-name": fmt.Sprintf("pk%08x0", hash("a-network-with-a-long-name"))} {
		if got := bridgeOf(name); got != want || len(got) > maxLinkName {
			t.Errorf("bridge of %s: got %s, want %s", name, got, want)
		}
	}
	if got := subnetOf("podkeeper").String(); got != defaultSubnet {
		t.Errorf("default subnet: got %s", got)
	}
	if subnetOf("one") == subnetOf("two") {
		t.Error("two names have one subnet")
	}
	for _, subnet := range []string{"fd00::/64", "10.0.0.0/31"} {
		if _, err := Open(Config{BinDir: "/b", RunDir: "/r", StateDir: "/s", Subnet: netip.MustParsePrefix(subnet)}); err == nil {
			t.Errorf("subnet %s is accepted", subnet)
		}
	}
}

func TestASubnetInUseIsRefused(t *testing.T) {
	taken := open(t, nil)
	add(t, taken, sandbox("t1"))
	n := open(t, func(c *Config) { c.Name += "x"; c.Subnet = taken.cfg.Subnet })
	if err := n.CreateNetNS("t2"); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Add(context.Background(), sandbox("t2")); err == nil || !strings.Contains(err.Error(), "configure another subnet") {
		t.Errorf("got %v", err)
	}
}

func TestTheHostHasAnAddress(t *testing.T) {
	t.Parallel()
	ips, err := HostIPs()
	if err != nil || len(ips) == 0 || !ips[0].IsValid() {
		t.Errorf("got %v, %v", ips, err)
	}
}

func TestThreadsComeHome(t *testing.T) {
	n := open(t, nil)
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	for i := range 20 {
		add(t, n, sandbox(fmt.Sprintf("n%d", i)))
	}
	threads, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range threads {
		ns, err := netns.GetFromPath(path)
		if err != nil {
			continue // the thread ended
		}
		if !ns.Equal(home) {
			t.Errorf("%s is not the host's", path)
		}
		ns.Close()
	}
}

// nothing is to be kept.
func nothing(string) bool { return false }

// only these are to be kept.
func only(ids ...string) func(string) bool {
	return func(id string) bool { return slices.Contains(ids, id) }
}

// TestANamespaceThatOthersHaveMade is kept as one of our own is, in place of one that was left.
func TestANamespaceThatOthersHaveMade(t *testing.T) {
	t.Parallel()
	n := open(t, nil)
	if err := errors.Join(n.CreateNetNS("theirs"), n.CreateNetNS("kept")); err != nil {
		t.Fatal(err)
	}
	identity := func(id string) uint64 {
		var is unix.Stat_t
		if err := unix.Stat(n.NetNS(id), &is); err != nil {
			t.Fatal(err)
		}
		return is.Ino
	}
	if err := n.KeepNetNS("kept", n.NetNS("theirs")); err != nil || identity("kept") != identity("theirs") || !n.HasNetNS("kept") {
		t.Errorf("it is %d, theirs %d: %v", identity("kept"), identity("theirs"), err)
	}
	if err := n.unpin("theirs"); err != nil {
		t.Fatal(err)
	}
	inNamespace(t, n.NetNS("kept"), func() {
		if lo, err := net.InterfaceByName("lo"); err != nil || lo.Flags&net.FlagUp == 0 {
			t.Errorf("its loopback is down: %v", err)
		}
	})
	if err := n.unpin("kept"); err != nil {
		t.Fatal(err)
	}
	for _, made := range []string{"/none", "/proc/self/status"} {
		if err := n.KeepNetNS("kept", made); err == nil {
			t.Errorf("%s is kept", made)
		}
	}
	if n.HasNetNS("kept") || n.KeepNetNS("../x", "/proc/self/ns/net") == nil {
		t.Error("what is none is kept")
	}
}
