package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestNodeLabels(t *testing.T) {
	t.Parallel()
	for sentence, r := range map[string]struct{ given, wrong string }{
		"pairs":                              {"disk=ssd,example.com/zone=a", ""},
		"a key alone has an empty value":     {"node-role.kubernetes.io/worker", ""},
		"a comma too many":                   {"disk=ssd,,", ""},
		"a value that no label has":          {"disk=an SSD", "--node-labels: disk=an SSD: a valid label must be"},
		"a key that no label has":            {"/disk=ssd", "--node-labels: /disk=ssd: prefix part must be non-empty"},
		"each fault is told":                 {"a b=c,d=e f", "--node-labels: d=e f: "},
		"another operating system than ours": {"kubernetes.io/os=windows", "--node-labels: kubernetes.io/os=windows: is linux on this node"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			f, cmd := &flags{}, &cobra.Command{}
			f.define(cmd)
			if err := cmd.ParseFlags([]string{"--node-labels", r.given}); err != nil {
				t.Fatal(err)
			}
			err := checkLabels(f.labels)
			if (err == nil) != (r.wrong == "") || err != nil && !strings.Contains(err.Error(), r.wrong) {
				t.Errorf("got %v, want %q", err, r.wrong)
			}
		})
	}
}
