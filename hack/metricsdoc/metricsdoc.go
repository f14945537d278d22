// Package metricsdoc reads which metrics docs/metrics.md tells of, for the tests that compare it with what is there.
package metricsdoc

import (
	"cmp"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// Metric is one by its name, such as podkeeper_pods.
type Metric struct {
	Name   string
	Type   string   // counter, gauge or histogram; empty where that is not known
	Labels []string // sorted
}

// String is the metric as Prometheus would have it, with its type.
func (m Metric) String() string {
	return fmt.Sprintf("%s %s{%s}", cmp.Or(m.Type, "?"), m.Name, strings.Join(m.Labels, ","))
}

// header is that of a table of metrics, and heading of the part that tells what a path answers.
const header = "| metric | type | labels | what it says |"

var (
	heading = regexp.MustCompile("^## `(/metrics[^`]*)`")
	quoted  = regexp.MustCompile("`([^`]*)`")
)

// Read answers what a document tells of, by the path that answers it.
func Read(file string) (map[string][]Metric, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read document: %w", err)
	}
	out, path, inTable := map[string][]Metric{}, "", false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch found := heading.FindStringSubmatch(line); {
		case strings.HasPrefix(line, "## "):
			path = ""
			if found != nil {
				path = found[1]
			}
		case line == header:
			inTable = true
		case !strings.HasPrefix(line, "|"):
			inTable = false
		case inTable && !strings.HasPrefix(line, "|---"):
			m, err := row(line)
			if err != nil || path == "" {
				return nil, fmt.Errorf("%s: %q: %w, below %q", file, line, cmp.Or(err, fmt.Errorf("a metric of nothing")), path)
			}
			out[path] = append(out[path], m)
		}
	}
	return out, nil
}

func row(line string) (m Metric, err error) {
	cells := strings.Split(strings.Trim(line, "|"), "|")
	if len(cells) != 4 {
		return m, fmt.Errorf("it has %d cells", len(cells))
	}
	name := quoted.FindStringSubmatch(cells[0])
	if name == nil || strings.TrimSpace(cells[3]) == "" {
		return m, fmt.Errorf("it has no name, or says nothing")
	}
	m = Metric{Name: name[1], Type: strings.TrimSpace(cells[1])}
	for _, label := range quoted.FindAllStringSubmatch(cells[2], -1) {
		m.Labels = append(m.Labels, label[1])
	}
	slices.Sort(m.Labels)
	return m, nil
}

// Of are the metrics of what was gathered. Labels are those that any of its series has.
func Of(families []*dto.MetricFamily) []Metric {
	var out []Metric
	for _, family := range families {
		m := Metric{Name: family.GetName(), Type: strings.ToLower(family.GetType().String())}
		for _, series := range family.GetMetric() {
			for _, label := range series.GetLabel() {
				if !slices.Contains(m.Labels, label.GetName()) {
					m.Labels = append(m.Labels, label.GetName())
				}
			}
		}
		slices.Sort(m.Labels)
		out = append(out, m)
	}
	return out
}

// Differences says, a line each, what is told of and not there, or there and not told of, or told of otherwise.
func Differences(documented, there []Metric) []string {
	var out []string
	text := func(all []Metric) (lines []string) {
		for _, m := range all {
			lines = append(lines, m.String())
		}
		return lines
	}
	told, is := text(documented), text(there)
	for _, line := range told {
		if !slices.Contains(is, line) {
			out = append(out, "docs/metrics.md tells of it, and it is not so: "+line)
		}
	}
	for _, line := range is {
		if !slices.Contains(told, line) {
			out = append(out, "docs/metrics.md does not tell of it: "+line)
		}
	}
	return out
}
