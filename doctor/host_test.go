package doctor

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestNetworkOfPods(t *testing.T) {
	forward := "/proc/sys/net/ipv4/ip_forward"
	runAll(t, map[string]row{
		"no configuration can be read": {
			func(w *world) {
				w.a.Network = func(context.Context) (Network, error) { return Network{}, errors.New("10-x.conf: it has no type") }
			},
			[]Finding{{"network", Fail, "10-x.conf: it has no type: mend it, or remove it"}},
		},
		"one configuration of two can be read": {
			func(w *world) { w.n.Skipped = []error{errors.New("10-x.conf: unexpected end")} },
			[]Finding{{"network", Warn, "10-x.conf: unexpected end: it is skipped"}, {"network", OK, "podkeeper"}},
		},
		"the subnet is someone else's": {
			func(w *world) { w.n.Faults = []error{errors.New("subnet 10.187.0.0/16 is in use")} },
			[]Finding{{"network", Fail, "subnet 10.187.0.0/16 is in use"}},
		},
		"plugins are missing": {
			func(w *world) { w.n.Missing = []string{"bridge", "host-local"}; w.remove("/usr/lib/cni") },
			[]Finding{{"CNI plugins", Fail, "bridge, host-local missing in /usr/lib/cni: apt-get install containernetworking-plugins"}},
		},
		"plugins for host ports are missing": {
			func(w *world) { w.n.Missing, w.n.Optional = []string{"portmap"}, true; w.remove("/usr/lib/cni") },
			[]Finding{{"CNI plugins", Warn, "portmap missing in /usr/lib/cni, which Pods with host ports need: apt-get install containernetworking-plugins"}},
		},
		"plugins are in another folder": {
			func(w *world) { w.n.Missing = []string{"bridge"}; w.a.PluginDir = "/opt/cni/bin" },
			[]Finding{{"CNI plugins", Fail, "bridge missing in /opt/cni/bin: use --cni-bin-dir /usr/lib/cni"}},
		},
		"iptables is missing": {
			func(w *world) { w.remove("/usr/sbin/iptables"); w.remove("/usr/sbin/iptables-restore") },
			[]Finding{{"iptables", Fail, "iptables is missing: apt-get install iptables"}, {"kernel network", OK, "bridge, veth can be made"}},
		},
		"half of iptables is missing": {
			func(w *world) { w.remove("/usr/sbin/iptables-restore") },
			[]Finding{{"iptables", Fail, "iptables-restore is missing"}},
		},
		"iptables is missing, and a network of the host's may do without": {
			func(w *world) { w.n.Subnet = ""; w.remove("/usr/sbin/iptables") },
			[]Finding{{"iptables", Warn, "apt-get install iptables"}},
		},
		"a network that needs neither iptables nor links": {
			func(w *world) {
				w.n = Network{Name: "mine", Plugins: []string{"macvlan"}}
				w.remove("/usr/sbin/iptables")
				w.write(forward, "0")
			},
			[]Finding{{"network", OK, "mine"}},
		},
		"iptables does not run": {
			func(w *world) { w.script("/usr/sbin/iptables", "echo no kernel support >&2; exit 3") },
			[]Finding{{"iptables", Fail, "no kernel support"}},
		},
		"the kernel has no bridges": {
			func(w *world) {
				w.n.Rehearse = func(context.Context, bool) error { return errors.New("make bridge: operation not supported") }
			},
			[]Finding{{"kernel network", Fail, "make bridge: operation not supported: use a kernel that has bridge, veth, iptables rules"}},
		},
		"forwarding is off, and the plugin can switch it on": {
			func(w *world) { w.write(forward, "0\n") },
			[]Finding{{"forwarding", OK, "is off; a plugin switches it on"}},
		},
		"forwarding is off, and stays so": {
			func(w *world) {
				w.write(forward, "0\n")
				before := w.h.Statfs
				w.h.Statfs = func(path string, to *unix.Statfs_t) error {
					err := before(path, to)
					if path == w.h.at(forward) {
						to.Flags = unix.ST_RDONLY
					}
					return err
				}
			},
			[]Finding{{"forwarding", Fail, "sysctl -w net.ipv4.ip_forward=1"}},
		},
		"forwarding cannot be told": {
			func(w *world) { w.remove(forward) },
			[]Finding{{"forwarding", Fail, "cannot be told"}},
		},
	})
}

func TestTimeForPodsWhenTheHostShutsDown(t *testing.T) {
	waits := func(delay time.Duration, err error, rivals ...string) func(w *world) {
		return func(w *world) {
			w.a.Shutdown = time.Minute
			w.a.Logind = func(context.Context) (time.Duration, []string, error) { return delay, rivals, err }
		}
	}
	runAll(t, map[string]row{
		"there is no logind":                {waits(0, errors.New("no such file")), []Finding{{"shutdown", Warn, "systemd-logind is not to be had: start it, and the system bus: no such file"}}},
		"logind waits for longer":           {waits(time.Hour, nil, "/etc/x.conf"), []Finding{{"shutdown", OK, "logind waits for 1h0m0s, and Pods have 1m0s"}}},
		"logind is made to by the agent":    {waits(5*time.Second, nil), []Finding{{"shutdown", OK, "logind waits for 5s, which the agent makes 1m0s"}}},
		"another file has the last word":    {waits(5*time.Second, nil, "/a.conf", "/b.conf"), []Finding{{"shutdown", Warn, "logind waits for 5s, and Pods are to have 1m0s: raise InhibitDelayMaxSec in /b.conf"}}},
		"no time of their own is asked for": {func(*world) {}, nil},
	})
}

func TestFoldersDiskAndSystemd(t *testing.T) {
	unit := func(lines string) func(*world) {
		return func(w *world) { w.script("/usr/bin/systemctl", "printf '"+lines+"'") }
	}
	runAll(t, map[string]row{
		"there is no manifest folder": {
			func(w *world) { w.remove("/etc/podkeeper") },
			[]Finding{{"manifests", Warn, "mkdir -p /etc/podkeeper/manifests"}},
		},
		"the manifest folder is a file": {
			func(w *world) { w.remove("/etc/podkeeper/manifests"); w.write("/etc/podkeeper/manifests", "") },
			[]Finding{{"manifests", Fail, "is no folder"}},
		},
		"what should be above the manifest folder is a file": {
			func(w *world) { w.remove("/etc/podkeeper"); w.write("/etc/podkeeper", "") },
			[]Finding{{"manifests", Fail, "cannot be read"}},
		},
		"others may write a manifest": {
			func(w *world) {
				w.a.Permissions = func() []error {
					return []error{errors.New("/etc/podkeeper/manifests/web.yaml can be written by others")}
				}
			},
			[]Finding{{"permissions", Warn, "/etc/podkeeper/manifests/web.yaml can be written by others"}},
		},
		"others may write many files": {
			func(w *world) {
				w.a.Permissions = func() []error { return slices.Repeat([]error{errors.New("it can be written by others")}, 7) }
			},
			append(slices.Repeat([]Finding{{"permissions", Warn, "it can be written"}}, 5), Finding{"permissions", Warn, "and 2 more"}),
		},
		"what answers kubectl is not there": {
			func(w *world) { w.a.APIProgram = "/usr/local/bin/podkeeper-api" },
			[]Finding{{"kubectl", Warn, "/usr/local/bin/podkeeper-api, which answers kubectl, is not there"}},
		},
		"what answers kubectl is no program": {
			func(w *world) { w.a.APIProgram = "/etc/podkeeper/api"; w.write("/etc/podkeeper/api", "") },
			[]Finding{{"kubectl", Warn, "/etc/podkeeper/api, which answers kubectl, is not there, or no program"}},
		},
		"what answers kubectl is there": {
			func(w *world) { w.a.APIProgram = "/usr/bin/podkeeper-api"; w.script("/usr/bin/podkeeper-api", "true") },
			nil,
		},
		"the disk is nearly full": {
			func(w *world) { w.statfs(func(st *unix.Statfs_t) { st.Bavail = 9_000 }) },
			[]Finding{{"disk", Warn, "/var/lib/podkeeper, /var/log/pods, /var/lib/containerd: 9000 MiB of 97 GiB (9%) and 90% of inodes free: make room"}},
		},
		"the disk of images has less left than they may be evicted for": {
			func(w *world) { w.statfs(func(st *unix.Statfs_t) { st.Bavail = 14_000 }) },
			[]Finding{{"disk", Warn, "(14%) and 90% of inodes free: make room: no Pod begins, and Pods are evicted, below 15% (inodes: 5%)"}},
		},
		"the disk is full": {
			func(w *world) { w.statfs(func(st *unix.Statfs_t) { st.Bavail = 99 }) },
			[]Finding{{"disk", Fail, "99 MiB of 97 GiB (0%)"}},
		},
		"inodes are nearly used up": {
			func(w *world) { w.statfs(func(st *unix.Statfs_t) { st.Ffree = 40_000 }) },
			[]Finding{{"disk", Warn, "4% of inodes free: make room"}},
		},
		"a few thousand inodes of very many are not none": {
			func(w *world) { w.statfs(func(st *unix.Statfs_t) { st.Ffree = 9_000 }) },
			[]Finding{{"disk", Warn, "0% of inodes free: make room"}},
		},
		"inodes are used up": {
			func(w *world) { w.statfs(func(st *unix.Statfs_t) { st.Ffree = 999 }) },
			[]Finding{{"disk", Fail, "0% of inodes free: make room"}},
		},
		"a file system that has no fixed number of inodes": {
			func(w *world) { w.statfs(func(st *unix.Statfs_t) { st.Files, st.Ffree = 0, 0 }) },
			[]Finding{{"disk", OK, "48 GiB of 97 GiB"}},
		},
		"a disk cannot be looked at": {
			func(w *world) {
				w.h.Statfs = func(path string, to *unix.Statfs_t) error {
					if path == w.h.at("/var/lib") {
						return unix.EIO
					}
					return nil
				}
				w.must(os.MkdirAll(w.h.at("/var/lib"), 0o755))
			},
			[]Finding{{"disk", Fail, "cannot be looked at: input/output error"}},
		},
		"a disk is mounted read-only": {
			func(w *world) {
				w.statfs(func(st *unix.Statfs_t) { st.Flags = unix.ST_RDONLY })
				w.c.Mounts = nil
			},
			[]Finding{{"disk", Fail, "mount it read-write"}},
		},
		"a file is where a folder should be": {
			func(w *world) { w.write("/var/lib/podkeeper", "") },
			[]Finding{{"disk", Fail, "/var/lib/podkeeper is no folder"}, {"disk", OK, "/var/log/pods, /var/lib/containerd"}},
		},
		"another init": {
			func(w *world) { w.remove("/run/systemd") },
			[]Finding{{"systemd", OK, "not the init of this host"}},
		},
		"the unit is not installed": {unit(`LoadState=not-found\nActiveState=inactive\nUnitFileState=\n`), []Finding{{"systemd", OK, "make install"}}},
		"the unit is bad":           {unit(`LoadState=bad-setting\n`), []Finding{{"systemd", Warn, "podkeeper.service is bad-setting"}}},
		"the service failed":        {unit(`LoadState=loaded\nActiveState=failed\nUnitFileState=enabled\n`), []Finding{{"systemd", Warn, "journalctl -u podkeeper"}}},
		"the service fails again and again": {
			unit(`LoadState=loaded\nActiveState=activating\nSubState=auto-restart\nUnitFileState=enabled\n`),
			[]Finding{{"systemd", Warn, "journalctl -u podkeeper"}},
		},
		"the service is not started by a boot": {
			unit(`LoadState=loaded\nActiveState=active\nUnitFileState=disabled\n`),
			[]Finding{{"systemd", Warn, "systemctl enable podkeeper"}},
		},
		"systemctl cannot reach systemd": {
			func(w *world) { w.script("/usr/bin/systemctl", "echo Failed to connect to bus >&2; exit 1") },
			[]Finding{{"systemd", Warn, "Failed to connect to bus"}},
		},
		"systemctl is missing": {
			func(w *world) { w.remove("/usr/bin/systemctl") },
			[]Finding{{"systemd", Warn, "systemctl is missing"}},
		},
	})
}
