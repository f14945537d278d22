package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

// TestNoContainerLeadsItsLogAstray has a container look through the pause process for the pipe of its output, to put a
// symlink to a file of the host in its place.
func TestNoContainerLeadsItsLogAstray(t *testing.T) {
	t.Parallel()
	n := launch(t)
	attack := func(name, field string) (victim, pod string) {
		victim = n.path("out", name)
		if err := os.WriteFile(victim, []byte("host's\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		// Its own pause process is the one that holds a pipe of its name.
		script := fmt.Sprintf(`for p in $(grep -l io/%[1]s.out /proc/[0-9]*/cmdline); do
  io=${p%%cmdline}root/io
  ls $io/%[1]s.out && rm -f $io/%[1]s.out $io/%[1]s.err; ln -s %[2]s $io/%[1]s.out && echo replaced
done
echo tried`, name, victim)
		manifest := strings.Replace(simple(name, script, field), "name: app", "name: "+name, 1)
		return victim, manifest
	}
	for name, field := range map[string]string{"pktshared": "  shareProcessNamespace: true", "pkthostpid": "  hostPID: true"} {
		victim, manifest := attack(name, field)
		n.apply(name+".yaml", manifest)
		pod := n.await(name, "was restarted", func(p *v1.Pod) bool { return containerStatus(p, name).RestartCount >= 1 })
		for attempt := range 2 {
			n.eventually("its output is in its log", func() error {
				lines := n.logLines(pod, name, attempt)
				if !slices.Contains(lines, "tried") {
					return fmt.Errorf("it says %q", lines)
				}
				if slices.Contains(lines, "replaced") {
					t.Errorf("%s has replaced its pipe", name)
				}
				if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasSuffix(l, "root/io/"+name+".out") }) {
					t.Errorf("%s has not found its pipe: %q", name, lines)
				}
				return nil
			})
		}
		if content, err := os.ReadFile(victim); err != nil || string(content) != "host's\n" {
			t.Errorf("%s has written %q to a file of the host: %v", name, content, err)
		}
	}
}
