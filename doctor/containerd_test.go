package doctor

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestContainerdAndWhatItStarts(t *testing.T) {
	version := func(v string) func(*world) { return func(w *world) { w.d.Version = v } }
	handler := func(h Handler) func(*world) { return func(w *world) { w.a.Handlers["mine"] = h } }
	runAll(t, map[string]row{
		"it is not installed": {
			func(w *world) { w.noContainerd(fs.ErrNotExist); w.remove("/usr/bin/containerd") },
			[]Finding{{"containerd", Fail, "nothing listens at unix:///run/containerd/containerd.sock: apt-get install containerd"}},
		},
		"it is not installed, on a host without apt": {
			func(w *world) {
				w.noContainerd(fs.ErrNotExist)
				w.remove("/usr/bin/containerd")
				w.remove("/usr/bin/apt-get")
			},
			[]Finding{{"containerd", Fail, "containerd.sock: install containerd"}},
		},
		"it does not run": {
			func(w *world) { w.noContainerd(unix.ECONNREFUSED) },
			[]Finding{{"containerd", Fail, "systemctl start containerd, or say with --container-runtime-endpoint"}},
		},
		"it does not run, on a host without systemd": {
			func(w *world) { w.noContainerd(unix.ECONNREFUSED); w.remove("/run/systemd") },
			[]Finding{{"containerd", Fail, "containerd.sock: start containerd, or"}},
		},
		"its socket is not ours to use": {
			func(w *world) { w.noContainerd(fs.ErrPermission) },
			[]Finding{{"containerd", Fail, "run as root"}},
		},
		"it hangs": {
			func(w *world) { w.noContainerd(context.DeadlineExceeded) },
			[]Finding{{"containerd", Fail, "does not answer within 5s: restart containerd"}},
		},
		"something else is wrong with it": {
			func(w *world) { w.noContainerd(errors.New("unknown service")) },
			[]Finding{{"containerd", Fail, "unknown service: see containerd's log"}},
		},
		"its socket is no path": {
			func(w *world) { w.noContainerd(errors.New("x")); w.a.Endpoint = "tcp://127.0.0.1:1" },
			[]Finding{{"containerd", Fail, "must be unix:// and an absolute path"}},
		},
		"it is too old":             {version("1.5.13"), []Finding{{"containerd", Fail, "1.5.13, unix:///run/containerd/containerd.sock: install 1.6"}}},
		"it is version 2":           {version("v2.4.2"), []Finding{{"containerd", OK, "v2.4.2, unix:"}}},
		"it is newer than we know":  {version("3.0.0"), []Finding{{"containerd", Warn, "3.0.0, unix:///run/containerd/containerd.sock: newer"}}},
		"it was built from a patch": {version("deadbeef"), []Finding{{"containerd", Warn, "not understood"}}},
		"it cannot unpack images": {
			func(w *world) { w.d.Snapshotter = errors.New("no d_type") },
			[]Finding{{"snapshotter", Fail, "no d_type"}},
		},
		"runc is missing": {
			func(w *world) { w.remove("/usr/sbin/runc") },
			[]Finding{{"handler runc", Fail, "apt-get install runc"}},
		},
		"runc is there, but not for containerd": {
			func(w *world) { w.write("/proc/42/environ", "PATH=/usr/bin\x00") },
			[]Finding{{"handler runc", Fail, "not to be found by containerd"}},
		},
		"a containerd that does not run would find runc, whatever our PATH is": {
			func(w *world) { w.noContainerd(unix.ECONNREFUSED); w.h.Path = "/usr/bin:/usr/games" },
			[]Finding{
				{"containerd", Fail, "start containerd"}, {"handler runc", OK, "runc version 1.1.5, /usr/sbin/runc"},
				{"iptables", Warn, "/usr/sbin/iptables is not in PATH"},
			},
		},
		"runc does not run": {
			func(w *world) { w.script("/usr/sbin/runc", "echo broken >&2; exit 1") },
			[]Finding{{"handler runc", Fail, "/usr/sbin/runc does not run: --version: exit status 1: broken"}},
		},
		"the shim is missing": {
			func(w *world) { w.remove("/usr/bin/containerd-shim-runc-v2") },
			[]Finding{{"shim", Fail, "containerd-shim-runc-v2 is not to be found by containerd"}},
		},
		"the shim is beside containerd": {
			func(w *world) {
				w.remove("/usr/bin/containerd-shim-runc-v2")
				w.script("/opt/containerd/bin/containerd-shim-runc-v2", "true")
			},
			[]Finding{{"shim", OK, "/opt/containerd/bin/containerd-shim-runc-v2"}},
		},
		"a shim that may not be run is none": {
			func(w *world) {
				w.remove("/usr/bin/containerd-shim-runc-v2")
				w.write("/usr/bin/containerd-shim-runc-v2", "")
			},
			[]Finding{{"shim", Fail, "not to be found"}},
		},
		"a further handler with the same shim": {
			func(w *world) {
				handler(Handler{Type: "io.containerd.runc.v2", BinaryName: "/usr/local/bin/crun"})(w)
				w.script("/usr/local/bin/crun", "echo crun version 1.8")
			},
			[]Finding{{"handler mine", OK, "crun version 1.8, /usr/local/bin/crun"}},
		},
		"a further handler that is not installed": {
			handler(Handler{Type: "io.containerd.runc.v2", BinaryName: "/usr/local/bin/crun"}),
			[]Finding{{"handler mine", Fail, "/usr/local/bin/crun is not to be found by containerd: install it, or leave out the handler"}},
		},
		"a handler whose shim is missing": {
			handler(Handler{Type: "io.containerd.kata.v2"}),
			[]Finding{{"shim", Fail, "containerd-shim-kata-v2 is not to be found"}, {"shim", OK, "runc-v2"}},
		},
		"a handler whose shim is a path": {
			func(w *world) {
				handler(Handler{Type: "/opt/shim"})(w)
				w.script("/opt/shim", "true")
			},
			[]Finding{{"shim", OK, "/opt/shim"}},
		},
		"a handler whose type is none": {
			handler(Handler{Type: "crun"}),
			[]Finding{{"shim", Fail, "crun is no runtime type"}},
		},
	})
}

func TestAskingWhereNoContainerdAnswers(t *testing.T) {
	dir := t.TempDir()
	silent := filepath.Join(dir, "silent")
	l, err := net.Listen("unix", silent)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "stale")})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	if err := stale.Close(); err != nil {
		t.Fatal(err)
	}
	w := healthy(t)
	for endpoint, want := range map[string]string{
		silent:                          "takes connections, but does not answer",
		"unix://" + silent:              "takes connections, but does not answer",
		filepath.Join(dir, "stale"):     "nothing listens",
		filepath.Join(dir, "nowhere"):   "nothing listens",
		"unix:///proc/self/status/sock": "see containerd's log",
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		d, err := Ask(ctx, endpoint)
		cancel()
		if err == nil {
			t.Errorf("%s answers %v", endpoint, d)
			continue
		}
		if found := w.h.containerd(endpoint, d, err)[0]; found.Level != Fail || !strings.Contains(found.Text, want) {
			t.Errorf("%s: %v, want %q", endpoint, found, want)
		}
	}
}
