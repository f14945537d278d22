package network

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// BenchmarkAdd adds and removes Pods, one after another and fifty at once, and where there are many others. The time of the processor is that of this
// process and of the plugins that it starts, and has the kernel's in it.
func BenchmarkAdd(b *testing.B) {
	for _, c := range []struct{ atOnce, others int }{{1, 0}, {50, 0}, {1, 1000}} {
		b.Run(fmt.Sprintf("%d at once beside %d", c.atOnce, c.others), func(b *testing.B) {
			n, atOnce := open(b, func(cfg *Config) { cfg.Subnet = netip.MustParsePrefix("10.194.0.0/16") }), c.atOnce
			for i := range c.others {
				if _, err := n.leases.take(fmt.Sprintf("other%d", i)); err != nil {
					b.Fatal(err)
				}
			}
			add(b, n, sandbox("first")) // makes the bridge and the rules
			var ids []string
			each := func(f func(Sandbox) error) (wall time.Duration) {
				start := time.Now()
				var group sync.WaitGroup
				for _, id := range ids {
					group.Go(func() {
						if err := f(sandbox(id)); err != nil {
							b.Error(err)
						}
					})
				}
				group.Wait()
				return time.Since(start)
			}
			var created, added, removed, used time.Duration
			for b.Loop() {
				ids = ids[:0]
				for i := range atOnce {
					ids = append(ids, fmt.Sprintf("bench%d", i))
				}
				created += each(func(s Sandbox) error { return n.CreateNetNS(s.ID) })
				before := processorTime(b)
				added += each(func(s Sandbox) error { _, err := n.Add(context.Background(), s); return err })
				removed += each(func(s Sandbox) error { return n.Remove(context.Background(), s) })
				used += processorTime(b) - before
			}
			for name, d := range map[string]time.Duration{"netns": created, "add": added, "remove": removed, "cpu": used} {
				b.ReportMetric(float64(d.Microseconds())/float64(b.N*atOnce)/1000, name+"-ms/pod")
			}
		})
	}
}

// processorTime is what this process and those that it has waited for have used.
func processorTime(b *testing.B) (sum time.Duration) {
	b.Helper()
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var usage syscall.Rusage
		if err := syscall.Getrusage(who, &usage); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	return sum
}

// BenchmarkAttached reads what is recorded of one sandbox among a thousand that plugins attached.
func BenchmarkAttached(b *testing.B) {
	n := openWritten(b, nil)
	add(b, n, sandbox("mine"))
	folder := filepath.Join(n.cfg.StateDir, "results")
	record, err := os.ReadFile(filepath.Join(folder, "written-mine-eth0"))
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
			err = os.WriteFile(filepath.Join(folder, "written-"+id+"-eth0"), record, 0o600)
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
