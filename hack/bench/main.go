// Command bench measures podkeeper: its real binary, against a floor and a peer, in one run on one private containerd
// in temporary folders with the image present. It prints one table and, with -json, keeps the raw figures in a file.
//
//	bench [-only one,many,restart,idle,growth,soak,probes,logs,volumes,resize,api,profile,podman] [-pods 50] [-rounds 10] [-idle 60s]
//	      [-soak 2000] [-json FILE] [-binary FILE] [-profile DIR] [-install-peers]
//
//	lab         temporary folders, containerd, cgroups; takes everything away again, on Ctrl-C too
//	floor       what a Pod of one container cannot do without, through containerd's client
//	floor_task  the floor's containers
//	agent, use  podkeeper, started and asked as a user would; what its processes use
//	api         podkeeper-api, started by the agent or alone, and its clients
//	part_*      what is measured; floor and podkeeper take turns, so that noise hits both alike
//	report      the table
//
// What cannot be measured is told of in the table, and the rest goes on; the exit status is 1 only where podkeeper
// itself could not be measured. A goal that is missed is no error.
//
// It must know podkeeper from outside only: its flags, labels and socket. Of the project's packages it uses the client
// of the socket and what takes the built-in network off the host.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	only         []string
	pods         int
	rounds       int
	idle         time.Duration
	soakPods     int
	json         string
	binary       string
	profile      string
	installPeers bool
}

// part is one group of figures.
type part struct {
	name string
	run  func(*bench, context.Context)
}

// parts answers all parts, in the order in which they run.
func parts() []part {
	return []part{
		{"one", (*bench).measureOne},
		{"many", (*bench).measureMany},
		{"restart", (*bench).measureRestart},
		{"idle", (*bench).measureIdle},
		{"growth", (*bench).measureGrowth},
		{"soak", (*bench).measureSoak},
		{"probes", (*bench).measureProbes},
		{"logs", (*bench).measureLogs},
		{"volumes", (*bench).measureVolumes},
		{"resize", (*bench).measureResize},
		{"api", (*bench).measureAPI},
		{"profile", (*bench).measureProfile},
		{"podman", (*bench).measurePodman},
	}
}

// bench is one run.
type bench struct {
	options

	lab    *lab
	floor  *floor
	agent  *agent
	report *report
	alone  float64 // ms from manifest to process of one Pod alone; 0 until measured
	serial int     // numbers Pods: no name is used twice
	part   string  // that runs
	failed bool    // podkeeper could not be measured in full
}

func main() {
	opts, err := readFlags()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, opts); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

func readFlags() (options, error) {
	var o options
	var names []string
	for _, p := range parts() {
		names = append(names, p.name)
	}
	only := flag.String("only", strings.Join(names, ","), "the parts to run")
	flag.IntVar(&o.pods, "pods", 50, "how many Pods are many; growth runs two, four and ten times as many")
	flag.IntVar(&o.rounds, "rounds", 10, "how many Pods are measured one by one")
	flag.DurationVar(&o.idle, "idle", time.Minute, "how long the agent is watched at rest")
	flag.IntVar(&o.soakPods, "soak", 2000, "how many Pods are made and removed, twenty at a time, to see what grows")
	flag.StringVar(&o.json, "json", "", "a file for the raw figures as JSON")
	flag.StringVar(&o.binary, "binary", "", "the podkeeper to measure, instead of one that is built now")
	flag.StringVar(&o.profile, "profile", "", "a folder for a CPU profile of the agent, and for its goroutines, while it starts many Pods")
	flag.BoolVar(&o.installPeers, "install-peers", false, "install podman with apt-get where it is missing")
	flag.Parse()
	o.only = strings.Split(*only, ",")
	for _, name := range o.only {
		if !slices.Contains(names, name) {
			return o, fmt.Errorf("-only %s: no such part: must be among %s", name, strings.Join(names, ","))
		}
	}
	if o.pods < 1 || o.rounds < 1 || o.soakPods < 1 {
		return o, errors.New("-pods, -rounds and -soak must be at least 1")
	}
	if o.binary != "" {
		path, err := filepath.Abs(o.binary)
		if err == nil {
			_, err = exec.LookPath(path)
		}
		if err != nil {
			return o, fmt.Errorf("-binary: %w", err)
		}
		o.binary = path
	}
	if os.Geteuid() != 0 {
		return o, errors.New("must be run as root")
	}
	return o, nil
}

// run measures what is asked for. The figures that there are by then are printed also when it is interrupted.
func run(ctx context.Context, opts options) error {
	lab, err := openLab(ctx, opts.binary)
	if err != nil {
		return err
	}
	b := &bench{options: opts, lab: lab, report: newReport()}
	b.report.Binary = b.version(ctx)
	b.floor = newFloor(ctx, lab)
	b.agent = newAgent(ctx, lab)
	for _, p := range parts() {
		if slices.Contains(opts.only, p.name) && ctx.Err() == nil {
			b.part = p.name
			p.run(b, ctx)
		}
	}
	b.report.Took = time.Since(b.report.Begin).Seconds()
	warnings, err := b.agent.warnings()
	b.report.Warnings = warnings
	b.report.print(os.Stdout)
	if opts.json != "" {
		err = errors.Join(err, b.report.write(opts.json))
	}
	// What is left behind is told of, and is no matter of what was measured.
	if err := errors.Join(b.agent.stop(syscall.SIGKILL), b.floor.close(), lab.close()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	switch {
	case ctx.Err() != nil:
		err = errors.Join(err, errors.New("interrupted"))
	case b.failed:
		err = errors.Join(err, errors.New("podkeeper could not be measured in full"))
	}
	return err
}

// version is what the binary says of itself.
func (b *bench) version(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, b.lab.binary, "version").Output()
	if err != nil {
		return fmt.Sprintf("%s (says no version: %v)", b.lab.binary, err)
	}
	name := strings.TrimSpace(string(out))
	if b.binary != "" {
		name += " (" + b.binary + ")"
	}
	return name
}

// contender is one of those that take turns in a measurement.
type contender struct {
	name string
	own  bool // it is podkeeper
	turn func(context.Context) error
}

// takeTurns lets contenders measure themselves in turns. One that fails is told of and has no more of them.
func (b *bench) takeTurns(ctx context.Context, rounds int, contenders ...contender) {
	for range rounds {
		contenders = slices.DeleteFunc(contenders, func(c contender) bool {
			if ctx.Err() != nil {
				return true
			}
			err := c.turn(ctx)
			if err != nil && ctx.Err() == nil {
				b.fail(ctx, c, err)
			}
			return err != nil
		})
	}
}

// once measures something of podkeeper that cannot be taken in turns.
func (b *bench) once(ctx context.Context, name string, measure func(context.Context) error) {
	b.takeTurns(ctx, 1, contender{name, true, measure})
}

// fail notes why a contender could not be measured. After podkeeper a new agent is there for what is next.
func (b *bench) fail(ctx context.Context, c contender, err error) {
	b.report.note(b.part, c.name, "not measured: "+err.Error())
	if !c.own {
		return
	}
	b.failed = true
	if b.agent.broken == nil {
		b.agent.broken = b.agent.reset(ctx)
	}
}

// names answers names of n Pods that no other Pod has had.
func (b *bench) names(n int) []string {
	var names []string
	for range n {
		b.serial++
		names = append(names, fmt.Sprintf("p%d", b.serial))
	}
	return names
}

// sleep waits, or fails when the run is to end.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("wait: %w", ctx.Err())
	case <-time.After(d):
		return nil
	}
}
