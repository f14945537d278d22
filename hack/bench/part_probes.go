package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// What is probed, how often and for how long, and the goals.
const (
	probePods       = 20
	probeContainers = 10 // of each
	probeWatch      = 30 * time.Second
	goalProbeCPU    = 3  // percent of one core
	goalProbeLate   = 50 // ms that one probe in a hundred may be late
	goalExec        = 1.3
)

// arrivals is an HTTP server that notes when each path was asked for.
type arrivals struct {
	mu sync.Mutex
	at map[string][]time.Time
}

// ServeHTTP notes a probe.
func (a *arrivals) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at[r.URL.Path] = append(a.at[r.URL.Path], time.Now())
}

// lateness is by how many ms each probe after the first of its container was late, counted from the first.
func (a *arrivals) lateness() []float64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	var late []float64
	for _, at := range a.at {
		for i := 1; i < len(at); i++ {
			due := at[0].Add(time.Duration(i) * time.Second)
			late = append(late, max(0, ms(at[i].Sub(due))[0]))
		}
	}
	return late
}

// measureProbes has many containers probed over HTTP each second, all by a server of the bench.
func (b *bench) measureProbes(ctx context.Context) {
	b.once(ctx, "HTTP probes", func(ctx context.Context) error {
		if b.agent.broken != nil {
			return b.agent.broken
		}
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("serve probes: %w", err)
		}
		probed := &arrivals{at: map[string][]time.Time{}}
		server := &http.Server{Handler: probed, ReadHeaderTimeout: 5 * time.Second}
		go func() { _ = server.Serve(listener) }() // ends with Close
		defer func() { _ = server.Close() }()
		pods := b.names(probePods)
		for _, pod := range pods {
			if err := os.WriteFile(b.agent.file(pod), probedManifest(pod, listener.Addr().(*net.TCPAddr).Port), 0o644); err != nil {
				return fmt.Errorf("write manifest: %w", err)
			}
		}
		if err := b.agent.awaitReady(ctx, len(pods)); err != nil {
			return err
		}
		if err := sleep(ctx, 10*time.Second); err != nil { // until nothing but probes is left
			return err
		}
		probed.mu.Lock()
		clear(probed.at)
		probed.mu.Unlock()
		before, err := b.agent.use()
		if err != nil {
			return err
		}
		if err := sleep(ctx, probeWatch); err != nil {
			return err
		}
		after, err := b.agent.use()
		if err != nil {
			return err
		}
		late := slices.Sorted(slices.Values(probed.lateness()))
		if len(late) == 0 {
			return fmt.Errorf("no probe has come")
		}
		name := fmt.Sprintf("%d HTTP probes a second: ", probePods*probeContainers)
		b.report.add(Figure{Part: "probes", Name: name + "CPU of one core", Unit: "%", Values: []float64{100 * (after.cpu - before.cpu) / probeWatch.Seconds()}, Goal: goalProbeCPU})
		b.report.add(Figure{Part: "probes", Name: name + "late, 99 of 100 at most", Unit: "ms", Values: []float64{late[len(late)*99/100]}, Goal: goalProbeLate})
		for _, pod := range pods {
			if err := os.Remove(b.agent.file(pod)); err != nil {
				return fmt.Errorf("remove manifest: %w", err)
			}
		}
		return b.agent.awaitReady(ctx, 0)
	})
	b.measureExec(ctx)
}

// execRounds is how many commands are run one by one.
const execRounds = 20

// measureExec measures exec probes beside bare commands in a container of the floor's.
func (b *bench) measureExec(ctx context.Context) {
	var floors, own []float64
	b.takeTurns(ctx, 1,
		contender{"floor: command in a container", false, func(ctx context.Context) error { return b.floorExec(ctx, &floors) }},
		contender{"podkeeper: exec probe", true, func(ctx context.Context) error { return b.probeExec(ctx, &own) }})
	b.report.add(Figure{Part: "probes", Name: "floor: command run in a container", Unit: "ms", Values: floors})
	b.report.add(Figure{Part: "probes", Name: "podkeeper: exec probe, on average", Unit: "ms", Values: own,
		Base: "floor", BaseValue: median(floors), GoalRatio: goalExec})
}

func (b *bench) floorExec(ctx context.Context, took *[]float64) (err error) {
	pods := b.names(1)
	defer func() {
		if _, removeErr := b.floor.remove(context.WithoutCancel(ctx), pods, 1); err == nil {
			err = removeErr
		}
	}()
	begin := time.Now()
	if _, err := b.floor.runPod(ctx, pods[0], inTurn); err != nil {
		return err
	}
	if _, err := b.lab.starts.wait(ctx, pods, begin); err != nil {
		return err
	}
	for i := range execRounds {
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
		begin := time.Now()
		if err := b.floor.exec(ctx, pods[0], fmt.Sprintf("exec%d", i)); err != nil {
			return err
		}
		*took = append(*took, ms(time.Since(begin))...)
	}
	return nil
}

// probeExec has a Pod probed for as many seconds, and takes the average from the agent's metric.
func (b *bench) probeExec(ctx context.Context, took *[]float64) error {
	if b.agent.broken != nil {
		return b.agent.broken
	}
	const sum, count = `podkeeper_probe_duration_seconds_sum{handler="exec"}`, `podkeeper_probe_duration_seconds_count{handler="exec"}`
	pods := b.names(1)
	probe := "    readinessProbe: {periodSeconds: 1, timeoutSeconds: 5, exec: {command: [/bin/true]}}\n    resources:"
	manifest := bytes.Replace(b.lab.manifest(pods[0]), []byte("    resources:"), []byte(probe), 1)
	if err := os.WriteFile(b.agent.file(pods[0]), manifest, 0o644); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	if err := b.agent.awaitReady(ctx, 1); err != nil {
		return err
	}
	var before, after [2]float64
	for i, into := range []*[2]float64{&before, &after} {
		for j, name := range []string{sum, count} {
			value, err := b.agent.metric(ctx, name)
			if err != nil {
				return err
			}
			into[j] = value
		}
		if i == 0 {
			if err := sleep(ctx, execRounds*time.Second); err != nil {
				return err
			}
		}
	}
	*took = append(*took, 1000*(after[0]-before[0])/(after[1]-before[1]))
	_, err := b.agent.remove(ctx, pods)
	return err
}

// probedManifest is a Pod whose containers have readiness probes that the bench answers.
func probedManifest(pod string, port int) []byte {
	var containers strings.Builder
	for i := range probeContainers {
		fmt.Fprintf(&containers, `  - name: c%d
    image: %s
    imagePullPolicy: IfNotPresent
    command: ["/bin/sh", "-c", "trap 'exit 0' TERM; sleep 1000000 & wait"]
    readinessProbe: {periodSeconds: 1, httpGet: {host: 127.0.0.1, port: %d, path: /%s/%d}}
`, i, demoImage, port, pod, i)
	}
	return fmt.Appendf(nil, "apiVersion: v1\nkind: Pod\nmetadata:\n  name: %s\nspec:\n  terminationGracePeriodSeconds: 5\n  containers:\n%s", pod, &containers)
}
