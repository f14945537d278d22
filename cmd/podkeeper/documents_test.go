package main

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/podkeeper/podkeeper/agent"
	podnode "github.com/podkeeper/podkeeper/agent/node"
)

func document(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheConfigurationIsToldOfInFull(t *testing.T) {
	t.Parallel()
	text := document(t, "configuration.md")
	want := func(what string) {
		t.Helper()
		if !strings.Contains(text, "`"+what+"`") {
			t.Errorf("docs/configuration.md does not name %s", what)
		}
	}
	agentCommand().Flags().VisitAll(func(f *pflag.Flag) {
		want("--" + f.Name)
		if f.DefValue != "" && f.DefValue != "[]" {
			want(f.DefValue)
		}
	})
	for _, field := range supported {
		want(field)
	}
}

func TestEveryMetricIsToldOf(t *testing.T) {
	t.Parallel()
	families, err := agent.New(agent.Config{}, &podnode.Node{}).Metrics().Gather()
	if err != nil {
		t.Fatal(err)
	}
	text, own := document(t, "metrics.md"), 0
	for _, family := range families {
		name := family.GetName()
		if !strings.HasPrefix(name, "podkeeper_") {
			continue // Go's and the process's
		}
		own++
		if !strings.Contains(text, "`"+name+"`") && !strings.Contains(text, "`"+name+"{") {
			t.Errorf("docs/metrics.md does not name %s", name)
		}
	}
	if own == 0 {
		t.Error("there are no metrics")
	}
}
