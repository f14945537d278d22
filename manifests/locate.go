package manifests

import (
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// pair is a key of a YAML mapping and its value.
type pair struct{ key, value *yaml.Node }

// resolve follows aliases. The YAML parser makes none that points at itself without a node between.
func resolve(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// maxMerges is how many mappings one may merge in, by way of others too: far beyond what anybody writes.
const maxMerges = 100

// pairs lists what a mapping holds; what it merges in by "<<" comes last, and its own keys win over that. It is not
// complete where there are too many merges.
func pairs(n *yaml.Node) (found []pair, complete bool) {
	budget := maxMerges
	found = mergedPairs(n, &budget)
	return found, budget >= 0
}

func mergedPairs(n *yaml.Node, budget *int) []pair {
	n = resolve(n)
	if *budget--; n == nil || n.Kind != yaml.MappingNode || *budget < 0 {
		return nil
	}
	var own, merged []pair
	has := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Tag != "!!merge" {
			own = append(own, pair{key, value})
			has[resolve(key).Value] = true
			continue
		}
		sources := []*yaml.Node{value}
		if list := resolve(value); list.Kind == yaml.SequenceNode {
			sources = list.Content
		}
		for _, source := range sources {
			merged = append(merged, mergedPairs(source, budget)...)
		}
	}
	for _, p := range merged {
		if name := resolve(p.key).Value; !has[name] {
			has[name] = true
			own = append(own, p)
		}
	}
	return own
}

// find is the pair of a mapping that has this key, or a zero one.
func find(n *yaml.Node, key string) pair {
	found, _ := pairs(n) // a mapping that is not complete is refused by strict
	for _, p := range found {
		if resolve(p.key).Value == key {
			return p
		}
	}
	return pair{}
}

func child(n *yaml.Node, key string) *yaml.Node { return find(n, key).value }

// text is the text under a key, or "" where there is none.
func text(n *yaml.Node, key string) string {
	value := resolve(child(n, key))
	if value == nil || value.Kind != yaml.ScalarNode || value.Tag == "!!null" {
		return ""
	}
	return value.Value
}

var steps = regexp.MustCompile(`\[([^\]]*)\]|([^.\[\]]+)`)

// locate finds the node of a field such as spec.containers[0].ports[1].hostPort: its key, or the item of a list. Where
// the field is not there, which is what many rules complain of, it is the nearest field around it that is.
func locate(root *yaml.Node, path string) *yaml.Node {
	at, inside := root, resolve(root)
	for _, step := range steps.FindAllStringSubmatch(path, -1) {
		name := step[1] + step[2]
		switch inside.Kind {
		case yaml.MappingNode:
			p := find(inside, name)
			if p.key == nil {
				return at
			}
			at, inside = p.key, resolve(p.value)
		case yaml.SequenceNode:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(inside.Content) {
				return at
			}
			at, inside = inside.Content[i], resolve(inside.Content[i])
		default:
			return at
		}
	}
	return at
}

// Line is the line of a YAML or JSON file on which a field such as clusterDNS[0] of its first document stands, 1-based,
// or that of the nearest field around it; 0 where the file cannot be read.
func Line(data []byte, name string) int {
	roots, err := parse(data)
	if err != nil || len(roots) == 0 {
		return 0
	}
	return locate(roots[0], name).Line
}

// join names a field of the object at a path; the path is nil for an object that is a document of its own.
func join(at *field.Path, name string) string {
	if at == nil {
		return name
	}
	return at.String() + "." + name
}

// relative takes the object's own path off a field.
func relative(path string, at *field.Path) string {
	if at == nil {
		return path
	}
	return strings.TrimPrefix(strings.TrimPrefix(path, at.String()), ".")
}
