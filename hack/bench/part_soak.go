package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// soakAtOnce is how many Pods of the soak are there at a time.
const soakAtOnce = 20

// measureSoak makes and removes Pods one crowd after another, and reports what has grown.
func (b *bench) measureSoak(ctx context.Context) {
	b.once(ctx, "soak", func(ctx context.Context) error {
		if b.agent.broken != nil {
			return b.agent.broken
		}
		if err := b.soak(ctx, soakAtOnce); err != nil { // what is made once
			return err
		}
		before, err := b.residue(ctx)
		if err != nil {
			return err
		}
		begin := time.Now()
		if err := b.soak(ctx, b.soakPods); err != nil {
			return err
		}
		took := time.Since(begin)
		after, err := b.residue(ctx)
		if err != nil {
			return err
		}
		b.report.add(Figure{Part: "soak", Name: fmt.Sprintf("%d Pods made and removed, %d at a time", b.soakPods, soakAtOnce), Unit: "s", Values: []float64{took.Seconds()}})
		for i, of := range after {
			b.report.add(Figure{Part: "soak", Name: of.what, Unit: of.unit, Values: []float64{of.amount}, Base: "before", BaseValue: before[i].amount})
		}
		return nil
	})
}

func (b *bench) soak(ctx context.Context, pods int) error {
	for range (pods + soakAtOnce - 1) / soakAtOnce {
		names := b.names(soakAtOnce)
		if _, err := b.agent.run(ctx, names); err != nil {
			return err
		}
		if err := b.agent.awaitReady(ctx, len(names)); err != nil {
			return err
		}
		if _, err := b.agent.remove(ctx, names); err != nil {
			return err
		}
	}
	return nil
}

// residue is what the agent and the host have, with no Pods, of what might grow with those there were.
func (b *bench) residue(ctx context.Context) ([]count, error) {
	if err := sleep(ctx, 15*time.Second); err != nil { // until the agent is at rest
		return nil, err
	}
	used, err := b.agent.use()
	if err != nil {
		return nil, err
	}
	proc := filepath.Join("/proc", strconv.Itoa(b.agent.cmd.Process.Pid))
	descriptors, err := os.ReadDir(filepath.Join(proc, "fd"))
	threads, threadsErr := os.ReadDir(filepath.Join(proc, "task"))
	mounts, mountsErr := countMounts()
	rules, rulesErr := exec.CommandContext(ctx, "iptables-save").Output()
	links, linksErr := os.ReadDir("/sys/class/net")
	namespaces, nsErr := os.ReadDir(b.lab.path("run", "netns"))
	goroutines, metricErr := b.agent.metric(ctx, "go_goroutines")
	if err := errors.Join(err, threadsErr, mountsErr, rulesErr, linksErr, nsErr, metricErr); err != nil {
		return nil, fmt.Errorf("count what is left of Pods: %w", err)
	}
	return []count{
		{"resident memory", "MiB", used.rss}, {"anonymous memory", "MiB", used.anonymous}, {"goroutines", "", goroutines},
		{"threads", "", float64(len(threads))}, {"descriptors", "", float64(len(descriptors))}, {"mounts", "", float64(mounts)},
		{"network namespaces", "", float64(len(namespaces))}, {"links", "", float64(len(links))},
		{"rules of iptables", "", float64(strings.Count(string(rules), "\n-A "))},
	}, nil
}

// count is an amount of something.
type count struct {
	what, unit string
	amount     float64
}
