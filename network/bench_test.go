package network

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkAttached reads what is recorded of one sandbox among a thousand.
func BenchmarkAttached(b *testing.B) {
	n := open(b, nil)
	add(b, n, sandbox("mine"))
	folder := filepath.Join(n.cfg.StateDir, "results")
	record, err := os.ReadFile(filepath.Join(folder, n.cfg.Name+"-mine-eth0"))
	if err != nil {
		b.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(record, &fields); err != nil {
		b.Fatal(err)
	}
	for i := range 1000 {
		id := fmt.Sprintf("other%d", i)
		fields["containerId"] = id
		record, err := json.Marshal(fields)
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, n.cfg.Name+"-"+id+"-eth0"), record, 0o600)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	b.Cleanup(func() {
		others, _ := filepath.Glob(filepath.Join(folder, "*-other*"))
		for _, file := range others {
			_ = os.Remove(file)
		}
	})
	if n, err = Open(n.cfg); err != nil { // which reads them
		b.Fatal(err)
	}
	for id, want := range map[string]int{"mine": 1, "new": 0} {
		b.Run(id, func(b *testing.B) {
			for b.Loop() {
				if ips, err := n.attached(context.Background(), sandbox(id)); err != nil || len(ips) != want {
					b.Fatal(ips, err)
				}
			}
		})
	}
}
