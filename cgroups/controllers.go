package cgroups

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
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

// PodFolders are the folders that Pods' cgroups are below, in each hierarchy and whichever driver made them, where they are there.
func (t *Tree) PodFolders() []string {
	var found []string
	for _, hierarchy := range t.hierarchies {
		for _, driver := range t.drivers() {
			folder := filepath.Join(hierarchy, t.classPath(driver, v1.PodQOSGuaranteed))
			if _, err := os.Stat(folder); err == nil && !slices.Contains(found, folder) {
				found = append(found, folder)
			}
		}
	}
	return found
}
