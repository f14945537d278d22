package manifests

import (
	"bytes"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
)

// fieldsDocument is where people read what rules say, between these lines.
const (
	fieldsDocument = "../docs/fields.md"
	fieldsBegin    = "<!-- written by: go test ./manifests -run TestFieldsAreToldOf -update -->\n"
	fieldsEnd      = "<!-- end -->\n"
)

// TestFieldsAreToldOf holds the document to the rules; -update writes it.
func TestFieldsAreToldOf(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(fieldsDocument)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := bytes.Cut(text, []byte(fieldsBegin))
	told, after, closed := bytes.Cut(rest, []byte(fieldsEnd))
	if !ok || !closed {
		t.Fatalf("%s has not the lines %q and %q", fieldsDocument, fieldsBegin, fieldsEnd)
	}
	want := tellFields()
	if *update {
		if err := os.WriteFile(fieldsDocument, slices.Concat(before, []byte(fieldsBegin+want+fieldsEnd), after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(told)); diff != "" {
		t.Errorf("%s does not say what rules do; run this test with -update (-want +got):\n%s", fieldsDocument, diff)
	}
}

// tellFields tells the rules, a row a type, in the order in which a Pod comes to them.
func tellFields() string {
	var order []string
	verdicts := map[string]map[verdict][]string{}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || leaf(typ) {
			return
		}
		fields := slices.SortedFunc(maps.Values(jsonFields(typ)), func(a, b jsonField) int { return slices.Compare(a.index, b.index) })
		before := slices.Clone(order)
		fields = slices.DeleteFunc(fields, func(f jsonField) bool { return slices.Contains(before, f.owner) })
		for _, f := range fields {
			if verdicts[f.owner] == nil {
				order, verdicts[f.owner] = append(order, f.owner), map[verdict][]string{}
			}
			text := "`" + f.name + "`"
			if values := f.rule().values; len(values) > 0 {
				text += " (`" + strings.Join(values, "`, `") + "`)"
			}
			v := f.rule().verdict
			verdicts[f.owner][v] = append(verdicts[f.owner][v], text)
		}
		for _, f := range fields {
			if v := f.rule().verdict; v == yes || v == some {
				walk(f.typ)
			}
		}
	}
	walk(reflect.TypeFor[v1.Pod]())
	var out strings.Builder
	columns := []verdict{yes, some, no, drop}
	out.WriteString("\n| type | supported | with certain values | refused | written by the API server: left out |\n|---|---|---|---|---|\n")
	for _, owner := range order {
		out.WriteString("| " + owner + " |")
		for _, v := range columns {
			if of := verdicts[owner][v]; len(of) > 0 {
				out.WriteString(" " + strings.Join(of, ", "))
			}
			out.WriteString(" |")
		}
		out.WriteString("\n")
	}
	return out.String() + "\n"
}
