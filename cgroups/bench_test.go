package cgroups

import (
	"fmt"
	"testing"
)

// BenchmarkEnsure makes, updates and removes one Pod among a thousand.
func BenchmarkEnsure(b *testing.B) {
	tree := open(b)
	for i := range 1000 {
		if err := tree.Ensure(burstable(fmt.Sprintf("old%d", i), "10m")); err != nil {
			b.Fatal(err)
		}
	}
	p := burstable("new", "10m")
	for b.Loop() {
		if err := tree.Ensure(p); err != nil {
			b.Fatal(err)
		}
		if err := tree.Remove(p); err != nil {
			b.Fatal(err)
		}
	}
}
