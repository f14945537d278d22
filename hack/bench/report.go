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

// Figure is one thing that was measured, or why it was not.
type Figure struct {
	Part      string    `json:"part"`
	Name      string    `json:"name"`
	Unit      string    `json:"unit,omitempty"` // ms, s, MiB
	Values    []float64 `json:"values,omitempty"`
	Median    float64   `json:"median"`
	Base      string    `json:"base,omitempty"`       // what of the same run the median is compared with
	BaseValue float64   `json:"base_value,omitempty"` // 0 where it could not be measured
	Ratio     float64   `json:"ratio,omitempty"`      // the median by the base
	Goal      float64   `json:"goal,omitempty"`       // the median is wanted to be at most this; 0 is no goal
	GoalRatio float64   `json:"goal_ratio,omitempty"` // the same of the ratio
	Note      string    `json:"note,omitempty"`       // instead of values: why there are none
}

// report is what was measured so far.
type report struct {
	Machine  string    `json:"machine"`
	Binary   string    `json:"binary"` // what it says to `version`, and where it is from
	Begin    time.Time `json:"begin"`
	Took     float64   `json:"took"` // seconds
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

// add notes a figure. One without values is left out: whoever could not measure it has said so.
func (r *report) add(f Figure) {
	if len(f.Values) == 0 {
		return
	}
	f.Median = median(f.Values)
	if f.BaseValue > 0 {
		f.Ratio = f.Median / f.BaseValue
	}
	r.Figures = append(r.Figures, f)
	fmt.Fprintf(os.Stderr, "%s: %s: %s %s %s\n", f.Part, f.Name, format(f.Median), f.Unit, f.ratio())
}

// note says why something was not measured.
func (r *report) note(part, what, why string) {
	r.Figures = append(r.Figures, Figure{Part: part, Name: what, Note: why})
	fmt.Fprintf(os.Stderr, "%s: %s: %s\n", part, what, why)
}

// ratio, goal and met are a figure's cells of the table.
func (f *Figure) ratio() string {
	if f.Ratio == 0 {
		return ""
	}
	return format(f.Ratio) + " × " + f.Base
}

func (f *Figure) goal() string {
	switch {
	case f.GoalRatio > 0:
		return "≤ " + format(f.GoalRatio) + " × " + f.Base
	case f.Goal > 0:
		return "≤ " + format(f.Goal) + " " + f.Unit
	}
	return ""
}

func (f *Figure) met() string {
	switch {
	case f.goal() == "":
		return ""
	case f.GoalRatio > 0 && f.Ratio == 0:
		return "unknown"
	case f.GoalRatio > 0 && f.Ratio > f.GoalRatio, f.Goal > 0 && f.Median > f.Goal:
		return "no"
	}
	return "yes"
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

const legend = `
floor (pause task)     network namespace, CNI add, a task for pause, a task for the app, in turn: the floor of all ratios
floor (pause process)  pause is no task, and the app's task is made while CNI runs
at a time              the best of 4, 8 and 16
removed                until there is no task and no address`

// print writes the table.
func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s; %s; %s, took %s\n\n", r.Binary, r.Machine, r.Begin.Format(time.DateTime),
		time.Duration(r.Took*float64(time.Second)).Round(time.Second))
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "PART\tFIGURE\tMEDIAN\tMIN..MAX\tUNIT\tRATIO\tGOAL\tMET")
	for _, f := range r.Figures {
		if f.Note != "" {
			first, _, _ := strings.Cut(f.Note, "\n")
			fmt.Fprintf(table, "%s\t%s\t-\t\t\t\t\t%s\n", f.Part, f.Name, first)
			continue
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s..%s\t%s\t%s\t%s\t%s\n", f.Part, f.Name, format(f.Median),
			format(slices.Min(f.Values)), format(slices.Max(f.Values)), f.Unit, f.ratio(), f.goal(), f.met())
	}
	_ = table.Flush() // a terminal that is gone cannot be told
	fmt.Fprintln(w, legend)
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
