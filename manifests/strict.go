package manifests

import (
	"encoding/base64"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// strict holds YAML against a Go type, field by field, and collects every unknown field, duplicate key and wrong type
// with its place. What it answers is what encoding/json would have made of the same text.
//
// Texts and truth values follow YAML 1.1, as kubectl reads them: yes, no, on and off are booleans. What is valid here
// is then valid there.
type strict struct {
	faults  []fault
	more    int    // faults beyond the first maxFaults
	budget  *int   // nodes left to visit: aliases can unfold a short text into a huge one
	shallow string // a field of the outermost mapping that is somebody else's to read
	hidden  bool   // no fault quotes what it is about
}

const (
	maxNodes  = 1 << 20 // of one document, aliases unfolded: far above what a Pod needs
	maxFaults = 50      // told of one object
)

func (s *strict) fault(n *yaml.Node, at *field.Path, format string, args ...any) {
	if len(s.faults) == maxFaults {
		s.more++
		return
	}
	name := ""
	if at != nil {
		name = at.String()
	}
	s.faults = append(s.faults, fault{node: n, field: name, reason: fmt.Sprintf(format, args...)})
}

var (
	quantityType    = reflect.TypeFor[resource.Quantity]()
	intOrStringType = reflect.TypeFor[intstr.IntOrString]()
	timeType        = reflect.TypeFor[metav1.Time]()
	microTimeType   = reflect.TypeFor[metav1.MicroTime]()
)

// found lists the faults, the last of which may be that there are more.
func (s *strict) found() []fault {
	if s.more == 0 {
		return s.faults
	}
	return append(s.faults, fault{reason: fmt.Sprintf("and %d more faults", s.more)})
}

// value reads a node as a value of type t. It answers nil where it recorded a fault.
func (s *strict) value(n *yaml.Node, t reflect.Type, at *field.Path) any {
	if *s.budget--; *s.budget <= 0 {
		if *s.budget == 0 {
			s.fault(n, at, "too large once its YAML aliases are unfolded: write out fewer of them")
		}
		return nil
	}
	n = resolve(n)
	if n.Style&yaml.TaggedStyle != 0 && !plainTag(n.Tag) {
		s.fault(n, at, "YAML tag%s: not supported: remove it", s.quote(" %s", n.Tag))
		return nil
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case n.Tag == "!!null":
		return nil
	case t == quantityType:
		return s.quantity(n, at)
	case t == intOrStringType:
		if n.Tag == "!!int" {
			return s.integer(n, reflect.TypeFor[int32](), at)
		}
		return s.scalar(n, reflect.TypeFor[string](), at)
	case t == timeType, t == microTimeType:
		return s.scalar(n, reflect.TypeFor[string](), at)
	case t.Kind() == reflect.Struct:
		return s.mapping(n, t, at)
	case t.Kind() == reflect.Map:
		return s.dictionary(n, t, at)
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return s.base64(n, at)
	case t.Kind() == reflect.Slice:
		return s.sequence(n, t, at)
	}
	return s.scalar(n, t, at)
}

func plainTag(tag string) bool {
	switch tag {
	case "!!str", "!!int", "!!float", "!!bool", "!!null", "!!map", "!!seq":
		return true
	}
	return false
}

// mapping reads a struct.
func (s *strict) mapping(n *yaml.Node, t reflect.Type, at *field.Path) any {
	if !s.is(n, yaml.MappingNode, "a mapping", at) {
		return nil
	}
	s.duplicates(n, at)
	shallow := s.shallow
	s.shallow = ""
	known := jsonFields(t)
	out := make(map[string]any)
	for _, p := range s.pairs(n, at) {
		name := resolve(p.key).Value
		f, ok := known[name]
		switch {
		case !ok:
			s.unknown(p.key, known, at.Child(name))
		case f.rule().dropped(), name == shallow:
		default:
			out[name] = s.value(p.value, f.typ, at.Child(name))
		}
	}
	return out
}

func (s *strict) pairs(n *yaml.Node, at *field.Path) []pair {
	found, complete := pairs(n)
	if !complete {
		s.fault(n, at, "more than %d YAML merges (<<): write out some of them", maxMerges)
	}
	return found
}

func (s *strict) unknown(key *yaml.Node, known map[string]jsonField, at *field.Path) {
	if len(s.faults) == maxFaults {
		s.more++
		return
	}
	names := make([]string, 0, len(known))
	for name := range known {
		names = append(names, name)
	}
	if near := nearest(resolve(key).Value, names); near != "" {
		s.fault(key, at, "unknown field: did you mean %q?", near)
		return
	}
	s.fault(key, at, "unknown field")
}

// dictionary reads a map with names of the user's choice, such as labels.
func (s *strict) dictionary(n *yaml.Node, t reflect.Type, at *field.Path) any {
	if !s.is(n, yaml.MappingNode, "a mapping", at) {
		return nil
	}
	s.duplicates(n, at)
	out := make(map[string]any)
	for _, p := range s.pairs(n, at) {
		key := resolve(p.key)
		if !s.plainKey(key) {
			s.fault(p.key, at, "key %s is %s: put it in quotes", key.Value, s.describe(key))
			continue
		}
		out[key.Value] = s.value(p.value, t.Elem(), at.Key(key.Value))
	}
	return out
}

// plainKey tells whether a key is the text that it looks like.
func (s *strict) plainKey(key *yaml.Node) bool {
	switch {
	case key.Kind != yaml.ScalarNode:
		return false
	case key.Tag == "!!int":
		n, err := strconv.ParseInt(key.Value, 10, 64)
		return err == nil && strconv.FormatInt(n, 10) == key.Value
	}
	_, boolean := truth(key)
	return !boolean && (key.Tag == "!!str" || key.Tag == "!!timestamp")
}

func (s *strict) duplicates(n *yaml.Node, at *field.Path) {
	first := make(map[string]*yaml.Node)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := resolve(n.Content[i])
		if key.Kind != yaml.ScalarNode {
			continue
		}
		if was, ok := first[key.Value]; ok {
			s.fault(n.Content[i], at.Child(key.Value), "given twice: it is %s above already", ago(n.Content[i].Line-was.Line))
			continue
		}
		first[key.Value] = n.Content[i]
	}
}

func ago(lines int) string {
	if lines == 1 {
		return "1 line"
	}
	return strconv.Itoa(lines) + " lines"
}

func (s *strict) sequence(n *yaml.Node, t reflect.Type, at *field.Path) any {
	if n.Kind != yaml.SequenceNode {
		hint := `: start each item with "- "`
		if n.Kind == yaml.ScalarNode {
			hint = s.quote(": write [%q]", n.Value)
		}
		s.fault(n, at, "wants a list, not %s%s", s.describe(n), hint)
		return nil
	}
	out := make([]any, len(n.Content))
	for i, item := range n.Content {
		out[i] = s.value(item, t.Elem(), at.Index(i))
	}
	return out
}

// base64 reads bytes.
func (s *strict) base64(n *yaml.Node, at *field.Path) any {
	if n.Kind != yaml.ScalarNode {
		s.fault(n, at, "wants text in base64, not %s", s.describe(n))
		return nil
	}
	written := s.scalar(n, reflect.TypeFor[string](), at)
	if written == nil {
		return nil
	}
	if _, err := base64.StdEncoding.DecodeString(n.Value); err != nil {
		hint := ""
		if s.hidden {
			hint = ", or write it as it is under stringData"
		}
		s.fault(n, at, "not base64: encode it, as base64 -w0 does%s", hint)
		return nil
	}
	return n.Value
}

func (s *strict) is(n *yaml.Node, kind yaml.Kind, want string, at *field.Path) bool {
	if n.Kind != kind {
		s.fault(n, at, "wants %s, not %s", want, s.describe(n))
	}
	return n.Kind == kind
}

func (s *strict) scalar(n *yaml.Node, t reflect.Type, at *field.Path) any {
	boolean, isBool := truth(n)
	switch kind := t.Kind(); {
	case kind == reflect.Bool && isBool:
		return boolean
	case kind == reflect.Bool:
		s.fault(n, at, "wants true or false, not %s%s", s.describe(n), unquote(n))
	case kind == reflect.String && n.Kind == yaml.ScalarNode && !isBool && (n.Tag == "!!str" || n.Tag == "!!timestamp"):
		return n.Value
	case kind == reflect.String && n.Kind == yaml.ScalarNode:
		s.fault(n, at, "wants text, not %s: put it in quotes%s", s.describe(n), s.quote(": %q", n.Value))
	case kind == reflect.String:
		s.fault(n, at, "wants text, not %s", s.describe(n))
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Int64:
		return s.integer(n, t, at)
	default:
		s.fault(n, at, "not supported")
	}
	return nil
}

func (s *strict) integer(n *yaml.Node, t reflect.Type, at *field.Path) any {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" && n.Tag != "!!float" {
		s.fault(n, at, "wants a whole number, not %s%s", s.describe(n), unquote(n))
		return nil
	}
	var whole int64
	if n.Tag == "!!int" {
		if err := n.Decode(&whole); err != nil || reflect.Zero(t).OverflowInt(whole) {
			s.fault(n, at, "%s is out of range for a whole number of %d bits", n.Value, t.Bits())
			return nil
		}
		return whole
	}
	var real float64
	if err := n.Decode(&real); err != nil || real != math.Trunc(real) || math.Abs(real) > 1<<53 {
		s.fault(n, at, "wants a whole number, not %s", n.Value)
		return nil
	}
	if whole = int64(real); reflect.Zero(t).OverflowInt(whole) {
		s.fault(n, at, "%s is out of range for a whole number of %d bits", n.Value, t.Bits())
		return nil
	}
	return whole
}

// quantity reads an amount such as 500m, 1.5 or 128Mi.
func (s *strict) quantity(n *yaml.Node, at *field.Path) any {
	written := n.Value
	switch _, isBool := truth(n); {
	case n.Kind != yaml.ScalarNode, isBool:
		s.fault(n, at, "wants an amount such as 500m, 1.5 or 128Mi, not %s", s.describe(n))
		return nil
	case n.Tag == "!!int":
		var whole int64
		if n.Decode(&whole) == nil {
			written = strconv.FormatInt(whole, 10)
		}
	case n.Tag == "!!float":
		var real float64
		if n.Decode(&real) == nil {
			written = strconv.FormatFloat(real, 'g', -1, 64)
		}
	}
	if _, err := resource.ParseQuantity(written); err != nil {
		s.fault(n, at, "%q is not an amount: write a number, with a unit or without, and no blank between: 500m, 1.5, 128Mi, 1Gi", n.Value)
		return nil
	}
	return written
}

// truth reads a boolean as YAML 1.1 spells it.
func truth(n *yaml.Node) (value, ok bool) {
	if n.Kind != yaml.ScalarNode || n.Style&^yaml.FlowStyle != 0 {
		return false, n.Tag == "!!bool"
	}
	switch strings.ToLower(n.Value) {
	case "true", "yes", "on", "y":
		return true, cased(n.Value)
	case "false", "no", "off", "n":
		return false, cased(n.Value)
	}
	return false, false
}

// cased leaves out spellings such as yEs, which are text.
func cased(word string) bool {
	lower, upper := strings.ToLower(word), strings.ToUpper(word)
	return word == lower || word == upper || word == upper[:1]+lower[1:]
}

// describe says what a node is, in words for a user.
func (s *strict) describe(n *yaml.Node) string {
	switch _, boolean := truth(n); {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case boolean:
		return "the boolean" + s.quote(" %s", n.Value)
	case n.Tag == "!!null":
		return "nothing"
	case n.Tag == "!!int", n.Tag == "!!float":
		return "the number" + s.quote(" %s", n.Value)
	}
	const most = 60
	if runes := []rune(n.Value); len(runes) > most {
		return "the text" + s.quote(" %q…", string(runes[:most]))
	}
	return "the text" + s.quote(" %q", n.Value)
}

// quote is a part of a fault that quotes what stands in the manifest, where that is for other eyes.
func (s *strict) quote(format string, what string) string {
	if s.hidden {
		return ""
	}
	return fmt.Sprintf(format, what)
}

// unquote is a hint for a number or boolean that was put in quotes.
func unquote(n *yaml.Node) string {
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) == 0 {
		return ""
	}
	bare := yaml.Node{Kind: yaml.ScalarNode, Value: n.Value}
	if tag := bare.ShortTag(); tag == "!!int" || tag == "!!bool" {
		return ": drop the quotes"
	}
	return ""
}
