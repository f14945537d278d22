package cgroups

import (
	"slices"
	"testing"
)

func TestControllersAndVersionOfAHost(t *testing.T) {
	for what, c := range map[string]struct {
		tree        *Tree
		version     string
		controllers []string
	}{
		"v2": {
			tree:    &Tree{cfg: Config{Unified: true}, mount: "/m", hierarchies: []string{"/m"}, controllers: []string{"cpu", "memory"}},
			version: "v2", controllers: []string{"cpu", "memory"},
		},
		"v1 with two controllers in one hierarchy": {
			tree:    &Tree{mount: "/m", hierarchies: []string{"/m/systemd", "/m/memory", "/m/cpu,cpuacct"}},
			version: "v1", controllers: []string{"cpu", "cpuacct", "memory"},
		},
		"v1 with an empty v2": {
			tree:    &Tree{mount: "/m", hierarchies: []string{"/m/cpu", "/m/unified"}},
			version: "hybrid", controllers: []string{"cpu"},
		},
	} {
		t.Run(what, func(t *testing.T) {
			if got := c.tree.Version(); got != c.version {
				t.Errorf("version %s, want %s", got, c.version)
			}
			if got := c.tree.Controllers(); !slices.Equal(got, c.controllers) {
				t.Errorf("controllers %v, want %v", got, c.controllers)
			}
		})
	}
}

func TestTheHostHasWhatPodsNeed(t *testing.T) {
	tree := open(t)
	for _, name := range []string{"cpu", "memory"} {
		if !slices.Contains(tree.Controllers(), name) {
			t.Errorf("%s is not among %v", name, tree.Controllers())
		}
	}
}
