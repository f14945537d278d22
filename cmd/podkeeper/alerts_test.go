package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/podkeeper/podkeeper/hack/metricsdoc"
)

// series are the metrics that docs/metrics.md tells of, with their labels, as PromQL may ask for them.
func series(t *testing.T) map[string][]string {
	t.Helper()
	documented, err := metricsdoc.Read("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{"up": nil} // Prometheus' own
	for _, metrics := range documented {
		for _, m := range metrics {
			names := []string{m.Name}
			if m.Type == "histogram" {
				names = []string{m.Name + "_bucket", m.Name + "_sum", m.Name + "_count"}
				m.Labels = append(m.Labels, "le")
			}
			for _, name := range names {
				out[name] = append(out[name], m.Labels...)
			}
		}
	}
	return out
}

// fromLibraries are metrics of which docs/metrics.md tells as go_* and process_*.
var fromLibraries = []string{"process_start_time_seconds", "process_open_fds", "process_max_fds", "process_resident_memory_bytes", "process_cpu_seconds_total", "go_goroutines"}

// checkQuery fails where a query is none, or asks for a metric or a label that does not exist.
func checkQuery(t *testing.T, where, query string, known map[string][]string) {
	t.Helper()
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		t.Errorf("%s: %v", where, err)
		return
	}
	selectors, all := parser.ExtractSelectors(expr), []string{"job", "instance"}
	if len(selectors) == 0 {
		t.Errorf("%s: %s asks for no metric", where, query)
	}
	for _, matchers := range selectors {
		name, asked := "", []string{}
		for _, m := range matchers {
			if m.Name == model.MetricNameLabel {
				name = m.Value
			} else {
				asked = append(asked, m.Name)
			}
		}
		has, is := known[name]
		if !is && !slices.Contains(fromLibraries, name) {
			t.Errorf("%s: there is no metric %s", where, name)
		}
		all = append(all, has...)
		for _, label := range asked {
			if label != "job" && label != "instance" && !slices.Contains(has, label) {
				t.Errorf("%s: %s has no label %s", where, name, label)
			}
		}
	}
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		if by, is := n.(*parser.AggregateExpr); is {
			for _, label := range by.Grouping {
				if !slices.Contains(all, label) {
					t.Errorf("%s: nothing in %s has the label %s", where, query, label)
				}
			}
		}
		return nil
	})
}

func TestAlertsAskForMetricsThatThereAre(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../packaging/prometheus-alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	groups, errs := rulefmt.Parse(content, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}
	known, count := series(t), 0
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			count++
			checkQuery(t, rule.Alert, rule.Expr, known)
			if !strings.HasPrefix(rule.Alert, "Podkeeper") || rule.Labels["severity"] == "" || rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
				t.Errorf("%s: it has no name of ours, or says nothing", rule.Alert)
			}
		}
	}
	if count < 10 {
		t.Errorf("there are %d alerts", count)
	}
}

// panel is one of Grafana's, as far as this is about it.
type panel struct {
	ID      int
	Title   string
	Type    string
	GridPos struct{ H, W, X, Y int }
	Targets []struct {
		Expr  string
		RefID string
	}
	Panels []panel
}

func TestTheDashboardAsksForMetricsThatThereAre(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../packaging/grafana-dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		UID, Title    string
		SchemaVersion int
		Panels        []panel
		Templating    struct {
			List []struct{ Name, Type, Definition string }
		}
	}
	if err := json.Unmarshal(content, &board); err != nil {
		t.Fatal(err)
	}
	if board.UID == "" || board.Title == "" || board.SchemaVersion < 41 {
		t.Errorf("it is %q, %q of schema %d", board.UID, board.Title, board.SchemaVersion)
	}
	known, ids, taken := series(t), map[int]bool{}, map[string]string{}
	for _, p := range board.Panels {
		if ids[p.ID] || p.GridPos.X+p.GridPos.W > 24 || p.GridPos.W < 1 || p.GridPos.H < 1 {
			t.Errorf("%s: its id or its place is wrong", p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				at := fmt.Sprint(x, y)
				if taken[at] != "" {
					t.Fatalf("%s lies on %s", p.Title, taken[at])
				}
				taken[at] = p.Title
			}
		}
		if len(p.Targets) == 0 && p.Type != "row" {
			t.Errorf("%s shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			checkQuery(t, p.Title, variable.ReplaceAllString(target.Expr, "5m"), known)
		}
	}
	if len(board.Panels) < 10 {
		t.Errorf("there are %d panels", len(board.Panels))
	}
	for _, v := range board.Templating.List {
		if v.Type != "query" {
			continue
		}
		found := labelValues.FindStringSubmatch(v.Definition)
		if found == nil {
			t.Errorf("variable %s is %s", v.Name, v.Definition)
			continue
		}
		checkQuery(t, v.Name, found[1], known)
		if has := slices.Concat(known[strings.Split(found[1], "{")[0]], []string{"instance", "job"}); !slices.Contains(has, found[2]) {
			t.Errorf("variable %s: %s has no label %s", v.Name, found[1], found[2])
		}
	}
}

// What Grafana puts in place of its variables is a text where it is quoted, and else a time.
var (
	variable    = regexp.MustCompile(`\$(__rate_interval|__range|__interval)`)
	labelValues = regexp.MustCompile(`^label_values\((.*), *(\w+)\)$`)
)
