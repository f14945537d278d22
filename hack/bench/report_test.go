package main

import (
	"strings"
	"testing"
)

func TestFigures(t *testing.T) {
	for name, tc := range map[string]struct {
		figure            Figure
		ratio, goal, mets string
	}{
		"without a goal there is nothing to meet":       {Figure{Unit: "ms", Values: []float64{5}}, "", "", ""},
		"a goal of the figure itself":                   {Figure{Unit: "ms", Values: []float64{5}, Goal: 5}, "", "≤ 5.00 ms", "yes"},
		"the median counts, not the worst":              {Figure{Unit: "ms", Values: []float64{4, 90, 4}, Goal: 5}, "", "≤ 5.00 ms", "yes"},
		"a goal that is missed":                         {Figure{Unit: "ms", Values: []float64{6}, Goal: 5}, "", "≤ 5.00 ms", "no"},
		"a goal of the ratio":                           {Figure{Values: []float64{50}, Base: "floor", BaseValue: 100, GoalRatio: .55}, "0.50 × floor", "≤ 0.55 × floor", "yes"},
		"a ratio that is missed":                        {Figure{Values: []float64{60}, Base: "floor", BaseValue: 100, GoalRatio: .55}, "0.60 × floor", "≤ 0.55 × floor", "no"},
		"a ratio beside a goal of the figure itself":    {Figure{Unit: "ms", Values: []float64{60}, Base: "floor", BaseValue: 30, Goal: 70}, "2.00 × floor", "≤ 70.0 ms", "yes"},
		"a floor that failed leaves it open":            {Figure{Values: []float64{60}, Base: "floor", GoalRatio: .55}, "", "≤ 0.55 × floor", "unknown"},
		"nothing used is measured, and within any goal": {Figure{Unit: "s", Values: []float64{0}, Goal: .1}, "", "≤ 0.10 s", "yes"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReport()
			r.add(tc.figure)
			f := r.Figures[0]
			if f.ratio() != tc.ratio || f.goal() != tc.goal || f.met() != tc.mets {
				t.Errorf("ratio, goal, met: %q, %q, %q, want %q, %q, %q", f.ratio(), f.goal(), f.met(), tc.ratio, tc.goal, tc.mets)
			}
		})
	}
}

func TestTableTellsOfWhatFailed(t *testing.T) {
	r := newReport()
	r.note("podman", "podman", "not measured: without catatonit\nand more, for the file")
	r.add(Figure{Part: "one", Name: "floor"})
	var out strings.Builder
	r.print(&out)
	if !strings.Contains(out.String(), "not measured: without catatonit\n") || strings.Contains(out.String(), "and more") {
		t.Errorf("the table does not tell it in one line:\n%s", &out)
	}
	if strings.Contains(out.String(), "one ") {
		t.Errorf("a figure without values is in the table:\n%s", &out)
	}
}
