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

// BenchmarkUsage reads what a container uses.
func BenchmarkUsage(b *testing.B) {
	tree := open(b)
	p := burstable("used", "1")
	if err := tree.Ensure(p); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tree.Usage(p, ""); err != nil {
			b.Fatal(err)
		}
	}
}
