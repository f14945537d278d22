// Command bench measures podkeeper: its real binary, against a floor and a peer, in one run on one private containerd
// in temporary folders with the image present. It prints a table and, with -json, a file; it asserts nothing.
//
//	bench [-only floor,one,many,restart,idle,growth,podman] [-pods 50] [-rounds 10] [-idle 60s] [-json FILE]
//	      [-install-peers]
//
//	lab      temporary folders, containerd, cgroups; takes everything away again, on Ctrl-C too
//	floor    what a Pod of one container cannot do without, one step after another, through containerd's client
//	agent    podkeeper, started and asked as a user would
//	part_*   what is measured; floor and podkeeper take turns, so that noise hits both alike
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
	"os/signal"
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
	json         string
	installPeers bool
}

// part is one group of figures.
type part struct {
	name string
	run  func(*bench, context.Context) error
}

// parts answers all parts, in the order in which they run.
func parts() []part {
	return []part{
		{"floor", (*bench).measureFloor},
		{"one", (*bench).measureOne},
		{"many", (*bench).measureMany},
		{"restart", (*bench).measureRestart},
		{"idle", (*bench).measureIdle},
		{"growth", (*bench).measureGrowth},
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
	best   int // how many Pods at a time give the floor its best total; 0 until measured
	serial int // numbers Pods: no name is used twice
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
	flag.IntVar(&o.pods, "pods", 50, "how many Pods are many; growth runs two and four times as many")
	flag.IntVar(&o.rounds, "rounds", 10, "how many Pods are measured one by one")
	flag.DurationVar(&o.idle, "idle", time.Minute, "how long the agent is watched at rest")
	flag.StringVar(&o.json, "json", "", "a file for the figures as JSON")
	flag.BoolVar(&o.installPeers, "install-peers", false, "install podman with apt-get where it is missing")
	flag.Parse()
	o.only = strings.Split(*only, ",")
	for _, name := range o.only {
		if !slices.Contains(names, name) {
			return o, fmt.Errorf("-only %s: no such part: must be among %s", name, strings.Join(names, ","))
		}
	}
	if o.pods < 1 || o.rounds < 1 {
		return o, errors.New("-pods and -rounds must be at least 1")
	}
	if os.Geteuid() != 0 {
		return o, errors.New("must be run as root")
	}
	return o, nil
}

// run measures what is asked for. The figures that there are by then are printed also when a part fails.
func run(ctx context.Context, opts options) (err error) {
	lab, err := openLab(ctx)
	if err != nil {
		return err
	}
	b := &bench{options: opts, lab: lab, report: newReport()}
	defer func() {
		if b.agent != nil {
			err = errors.Join(err, b.agent.stop(syscall.SIGKILL))
		}
		err = errors.Join(err, lab.close())
	}()
	if b.floor, err = newFloor(ctx, lab); err != nil {
		return err
	}
	if b.agent, err = newAgent(ctx, lab); err != nil {
		return err
	}
	for _, p := range parts() {
		if !slices.Contains(opts.only, p.name) {
			continue
		}
		if err = p.run(b, ctx); err != nil {
			err = errors.Join(fmt.Errorf("measure %s: %w", p.name, err), b.agent.lastWords())
			break
		}
	}
	var warnErr error
	b.report.Warnings, warnErr = b.agent.warnings()
	b.report.print(os.Stdout)
	err = errors.Join(err, warnErr)
	if opts.json != "" {
		err = errors.Join(err, b.report.write(opts.json))
	}
	return err
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
