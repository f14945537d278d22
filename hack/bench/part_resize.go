package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// resizes is how often a Pod is resized, and goalResize the goal, in ms, for an edit on its way to the cgroup of a container.
const (
	resizes    = 20
	goalResize = 20
)

// measureResize edits the CPU limit of a manifest, and waits for the container's cgroup to have it.
func (b *bench) measureResize(ctx context.Context) {
	b.once(ctx, "resize", func(ctx context.Context) error {
		if b.agent.broken != nil {
			return b.agent.broken
		}
		pod := b.names(1)[0]
		sized := func(milli int) map[string][]byte {
			limit := fmt.Sprintf("limits: {cpu: %dm,", milli)
			return map[string][]byte{pod: []byte(strings.Replace(string(b.lab.manifest(pod)), `limits: {cpu: "1",`, limit, 1))}
		}
		if _, err := b.agent.dropAll(sized(100)); err != nil {
			return err
		}
		if err := b.agent.awaitReady(ctx, 1); err != nil {
			return err
		}
		pid, err := b.agent.mainPID(ctx, pod)
		if err != nil {
			return err
		}
		quota, err := quotaFile(pid)
		if err != nil {
			return err
		}
		var took []float64
		for i := range resizes {
			milli := 200 + 50*(i%2)
			begin, err := b.agent.dropAll(sized(milli))
			if err != nil {
				return err
			}
			resized := func() (bool, error) {
				text, err := os.ReadFile(quota)
				first, _, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
				return first == fmt.Sprint(milli*100), err
			}
			if err := poll(ctx, time.Millisecond/2, resized); err != nil {
				return fmt.Errorf("wait for the cgroup: %w", err)
			}
			took = append(took, ms(time.Since(begin))...)
			if err := b.agent.awaitReady(ctx, 1); err != nil {
				return err
			}
		}
		b.report.add(Figure{Part: "resize", Name: "an edit of cpu, until the container's cgroup has it", Unit: "ms", Values: took, Goal: goalResize})
		_, err = b.agent.remove(ctx, []string{pod})
		return err
	})
}

// quotaFile is where the kernel says how much CPU the cgroup of a process may have, on cgroup v1 or v2.
func quotaFile(pid int) (string, error) {
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(groups)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		for _, name := range []string{"cpu.cfs_quota_us", "cpu.max"} {
			file := filepath.Join("/sys/fs/cgroup", parts[1], parts[2], name)
			if _, err := os.Stat(file); err == nil {
				return file, nil
			}
		}
	}
	return "", fmt.Errorf("find the cgroup of process %d: no cpu controller", pid)
}
