package cgroups

import (
	"path/filepath"
	"slices"
	"strings"
)

// Version is the version of the host's cgroups: v2, v1, or hybrid, which is v1 with an empty v2 beside it.
func (t *Tree) Version() string {
	switch {
	case t.cfg.Unified:
		return "v2"
	case slices.Contains(t.hierarchies, filepath.Join(t.mount, "unified")):
		return "hybrid"
	default:
		return "v1"
	}
}

// Controllers are those that cgroups of Pods can have. On v1, mount points are named after them.
func (t *Tree) Controllers() []string {
	if t.cfg.Unified {
		return slices.Clone(t.controllers)
	}
	var out []string
	for _, hierarchy := range t.hierarchies {
		if name := filepath.Base(hierarchy); name != "unified" && name != "systemd" {
			out = append(out, strings.Split(name, ",")...)
		}
	}
	slices.Sort(out)
	return out
}

// Hierarchies are the mount points of cgroups that Pods' cgroups are made in.
func (t *Tree) Hierarchies() []string { return slices.Clone(t.hierarchies) }
