package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

// TestWhatOthersMayWriteIsNotFollowed has others than root be able to write a manifest, an image archive, a seccomp profile, the
// configuration, and the way to them.
func TestWhatOthersMayWriteIsNotFollowed(t *testing.T) {
	t.Parallel()
	n := launch(t)
	chmod := func(file string, mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
	}
	manifest := n.path("manifests", "web.yaml")
	n.apply("web.yaml", simple("web", forever))
	before := n.awaitReady("web")

	chmod(manifest, 0o666)
	if err := os.WriteFile(manifest, []byte(simple("web", "echo changed; "+forever, "  hostPID: true")), 0); err != nil {
		t.Fatal(err)
	}
	n.refused("web.yaml", "is not trusted: "+manifest+" can be written by others (mode 0666), who would be root by it: chmod go-w "+manifest)
	if out := n.pods(); !strings.Contains(out, "chmod go-w "+manifest) || !strings.Contains(out, "the last good version of it stays") {
		t.Errorf("podkeeper pods prints %s", out)
	}
	if out := n.doctor(); !strings.Contains(out, "chmod go-w "+manifest) {
		t.Errorf("podkeeper doctor prints %s", out)
	}
	now := n.awaitReady("web")
	if now.UID != before.UID || now.Spec.HostPID {
		t.Errorf("the Pod is another one: %+v", now)
	}
	chmod(manifest, 0o644)
	n.await("web", "is what root lets it be", func(p *v1.Pod) bool { return isReady(p) && p.UID != before.UID && p.Spec.HostPID })

	n.apply("new.yaml", simple("new", forever))
	n.awaitReady("new")
	chmod(n.path("manifests"), 0o777)
	n.apply("other.yaml", simple("other", forever))
	n.refused("other.yaml", n.path("manifests")+" can be written by others (mode 0777)")
	chmod(n.path("manifests"), 0o755)
	n.awaitReady("other")

	profile := n.path("root", "seccomp", "profile.json")
	if err := errors.Join(os.MkdirAll(filepath.Dir(profile), 0o755), os.WriteFile(profile, []byte(`{"defaultAction": "SCMP_ACT_ALLOW"}`), 0o644), os.Chmod(profile, 0o666)); err != nil {
		t.Fatal(err)
	}
	n.apply("seccomp.yaml", simple("seccomp", forever, "  securityContext: {seccompProfile: {type: Localhost, localhostProfile: profile.json}}"))
	n.await("seccomp", "is told that its profile is not trusted", func(p *v1.Pod) bool {
		w := containerStatus(p, "app").State.Waiting
		return w != nil && w.Reason == "CreateContainerConfigError" && strings.Contains(w.Message, "profile.json is not trusted: ")
	})
	chmod(profile, 0o644)
	n.awaitReady("seccomp")

	n.stopAgent()
	for file, mode := range map[string]os.FileMode{n.path("config.yaml"): 0o602, n.path("root"): 0o777, n.path("run"): 0o707} {
		is, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		chmod(file, mode)
		var said bytes.Buffer
		cmd := exec.Command(lab.podkeeper, n.agent.Args[1:]...)
		cmd.Stderr = &said
		if err := cmd.Run(); err == nil || !strings.Contains(said.String(), file+" is not trusted: "+file+" can be written by others") {
			t.Errorf("%s: the agent starts: %v: %s", file, err, said.String())
		}
		chmod(file, is.Mode().Perm())
	}

	images := n.path("images")
	archive := filepath.Join(images, "demo.tar")
	content, err := os.ReadFile(filepath.Join(lab.images, "demo.tar"))
	if err == nil {
		err = errors.Join(os.MkdirAll(images, 0o755), os.WriteFile(archive, content, 0o644), os.Chown(archive, 12345, 0))
	}
	if err != nil {
		t.Fatal(err)
	}
	n.flags = append(n.flags, "--image-dir", images)
	n.restart()
	defer func() { n.flags = nil }()
	n.eventually("the log says that the archive is not imported", func() error {
		if !strings.Contains(n.log.String(), archive+" belongs to user 12345") {
			return errors.New("it does not")
		}
		return nil
	})
	n.apply("unheard.yaml", strings.Replace(simple("unheard", forever), image, "podkeeper.local/unheard:of", 1)+"    imagePullPolicy: Never\n")
	n.await("unheard", "is told of the archive", func(p *v1.Pod) bool {
		w := containerStatus(p, "app").State.Waiting
		return w != nil && strings.Contains(w.Message, archive+" was not imported: it is not trusted: ")
	})
	if err := os.Chown(archive, 0, 0); err != nil {
		t.Fatal(err)
	}
	n.eventually("it is imported when it is root's", func() error {
		if !strings.Contains(n.log.String(), "msg=\"imported images\" file="+archive) {
			return errors.New("it is not")
		}
		return nil
	})
	n.stopAgent()
	n.flags = append(n.flags, "--allow-unsafe-permissions")
	chmod(manifest, 0o666)
	n.restart()
	n.eventually("nothing is refused where that is allowed", func() error {
		if m, err := n.client().Manifests(t.Context()); err != nil || len(m.Refused) > 0 {
			return fmt.Errorf("%+v, %w", m, err)
		}
		return nil
	})
}

// refused waits until a manifest is refused for that.
func (n *node) refused(file, reason string) {
	n.t.Helper()
	n.eventually(file+" is refused", func() error {
		m, err := n.client().Manifests(n.t.Context())
		if err != nil {
			return err
		}
		for _, r := range m.Refused {
			if filepath.Base(r.File) == file && strings.Contains(r.Reason, reason) {
				return nil
			}
		}
		return fmt.Errorf("refused are %+v", m.Refused)
	})
}

// pods is what `podkeeper pods` prints.
func (n *node) pods() string {
	out, _ := exec.Command(lab.podkeeper, "pods", "--run-dir", n.path("run")).CombinedOutput()
	return string(out)
}

// doctor is what `podkeeper doctor` prints.
func (n *node) doctor() string {
	out, _ := exec.Command(lab.podkeeper, append([]string{"doctor"}, n.agent.Args[2:]...)...).CombinedOutput()
	return string(out)
}
