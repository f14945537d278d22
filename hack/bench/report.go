package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Figure is one thing that was measured.
type Figure struct {
	Part   string    `json:"part"`
	Name   string    `json:"name"`
	Unit   string    `json:"unit"` // ms, s, MiB, ratio
	Values []float64 `json:"values"`
	Median float64   `json:"median"`
	Goal   float64   `json:"goal,omitempty"`    // at most this is wanted; 0 is no goal
	OfGoal float64   `json:"of_goal,omitempty"` // the median as a part of the goal: up to 1 is good
	Note   string    `json:"note,omitempty"`    // instead of values: why there are none
}

// report is what was measured so far.
type report struct {
	Machine  string    `json:"machine"`
	Begin    time.Time `json:"begin"`
	Figures  []Figure  `json:"figures"`
	Warnings []string  `json:"warnings,omitempty"` // from the agent's log
}

func newReport() *report {
	host, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		host = []byte("unknown")
	}
	return &report{
		Machine: fmt.Sprintf("%d CPUs, %s, Linux %s", runtime.NumCPU(), runtime.GOARCH, strings.TrimSpace(string(host))),
		Begin:   time.Now(),
	}
}

// add notes a figure; goal 0 is none.
func (r *report) add(part, name, unit string, goal float64, values ...float64) {
	f := Figure{Part: part, Name: name, Unit: unit, Values: values, Median: median(values), Goal: goal}
	if goal > 0 {
		f.OfGoal = f.Median / goal
	}
	r.Figures = append(r.Figures, f)
	fmt.Fprintf(os.Stderr, "%s: %s: %s %s\n", part, name, format(f.Median), unit)
}

// note says why a figure is missing.
func (r *report) note(part, why string) {
	r.Figures = append(r.Figures, Figure{Part: part, Note: why})
	fmt.Fprintf(os.Stderr, "%s: %s\n", part, why)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted) == 0 {
		return 0
	}
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// format prints a number with as many digits as mean something.
func format(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// print writes the table.
func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "%s, %s\n\n", r.Machine, r.Begin.Format(time.DateTime))
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "PART\tFIGURE\tMEDIAN\tMIN\tMAX\tUNIT\tGOAL\tOF GOAL")
	for _, f := range r.Figures {
		if f.Note != "" {
			fmt.Fprintf(table, "%s\t%s\n", f.Part, f.Note)
			continue
		}
		goal, of := "", ""
		if f.Goal > 0 {
			goal, of = "≤ "+format(f.Goal), format(f.OfGoal)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", f.Part, f.Name, format(f.Median),
			format(slices.Min(f.Values)), format(slices.Max(f.Values)), f.Unit, goal, of)
	}
	_ = table.Flush() // a terminal that is gone cannot be told
	if len(r.Warnings) > 0 {
		fmt.Fprintf(w, "\nThe agent's log has %d warnings, among them:\n%s\n", len(r.Warnings), strings.Join(r.Warnings[:min(10, len(r.Warnings))], "\n"))
	}
}

// write writes the figures as JSON.
func (r *report) write(file string) error {
	encoded, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode figures: %w", err)
	}
	if err := os.WriteFile(file, append(encoded, '\n'), 0o644); err != nil {
		return fmt.Errorf("write figures: %w", err)
	}
	return nil
}

// ms are durations in milliseconds.
func ms(durations ...time.Duration) []float64 {
	out := make([]float64, 0, len(durations))
	for _, d := range durations {
		out = append(out, float64(d)/float64(time.Millisecond))
	}
	return out
}
