package manifests

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
)

// reader turns what stands in one document into objects and refusals.
type reader struct {
	file   string
	offset int // lines of the file before the document
	doc    *document
	kept   bool // kinds are welcome that no manifest may have
	budget int  // see strict
}

// takes says whether there is a kind that may stand here.
func (r *reader) takes(kind string) bool {
	of, ok := kinds[kind]
	return ok && (r.kept || !of.keptOnly)
}

// fault is what is wrong with an object, before it is known whose it is.
type fault struct {
	node   *yaml.Node // where; nil for the object itself
	field  string
	reason string
}

// object reads one Kubernetes object, or a list of them. Items of a PodList may leave out what they are: then it is assumed.
func (r *reader) object(root *yaml.Node, at *field.Path, assumed string) {
	root = resolve(root)
	if root.Kind != yaml.MappingNode {
		r.refuse(root, at, fault{reason: "not a Kubernetes object: a manifest starts with apiVersion: v1 and kind: Pod"})
		return
	}
	kind, version := text(root, "kind"), text(root, "apiVersion")
	items, listed := strings.CutSuffix(kind, "List")
	switch {
	case kind == "" && assumed == "":
		r.refuse(root, at, fault{field: join(at, "kind"), reason: "missing: write kind: Pod"})
	case listed && (items == "" || r.takes(items)):
		want := v1.SchemeGroupVersion
		if items != "" {
			want = kinds[items].version
		}
		if version != want.String() {
			r.refuseVersion(root, at, kind, want)
			return
		}
		r.list(root, at, items)
	case kind != "" && !r.takes(kind):
		reason := fmt.Sprintf("kind %s: not supported: podkeeper takes %s", kind, strings.Join(kindNames(), ", "))
		if near := nearest(kind, append(kindNames(), "List", "PodList")); near != "" && !kinds[kind].keptOnly {
			reason += fmt.Sprintf("; did you mean %q?", near)
		}
		r.refuse(root, at, fault{node: locate(root, "kind"), field: join(at, "kind"), reason: reason})
	case version != kinds[cmp.Or(kind, assumed)].version.String() && (assumed == "" || version != ""):
		r.refuseVersion(root, at, cmp.Or(kind, assumed), kinds[cmp.Or(kind, assumed)].version)
	case assumed != "" && kind != "" && kind != assumed:
		r.refuse(root, at, fault{node: locate(root, "kind"), field: join(at, "kind"), reason: fmt.Sprintf("kind %s in a %sList: make it a List", kind, assumed)})
	default:
		r.typed(root, at, cmp.Or(kind, assumed))
	}
}

// refuseVersion refuses an apiVersion that is not the one of its kind.
func (r *reader) refuseVersion(root *yaml.Node, at *field.Path, kind string, want schema.GroupVersion) {
	reason := fmt.Sprintf("missing: %s wants apiVersion: %s", withArticle(kind), want)
	if version := text(root, "apiVersion"); version != "" {
		reason = fmt.Sprintf("%q: %s wants apiVersion: %s", version, withArticle(kind), want)
	}
	r.refuse(root, at, fault{node: locate(root, "apiVersion"), field: join(at, "apiVersion"), reason: reason})
}

// listHead is what a List has besides its items.
type listHead struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        metav1.ListMeta `json:"metadata"`
	Items           []struct{}      `json:"items"`
}

func (r *reader) list(root *yaml.Node, at *field.Path, kind string) {
	check := strict{budget: &r.budget, shallow: "items"}
	check.value(root, reflect.TypeFor[listHead](), at)
	r.refuse(root, at, check.found()...)
	items := resolve(child(root, "items"))
	if items == nil {
		r.refuse(root, at, fault{field: join(at, "items"), reason: "missing: a list has its objects under items:"})
		return
	}
	if items.Kind != yaml.SequenceNode {
		if items.Tag != "!!null" {
			r.refuse(root, at, fault{node: items, field: join(at, "items"), reason: "wants a list, not " + check.describe(items)})
		}
		return
	}
	for i, item := range items.Content {
		// A list in a list may, by way of YAML anchors, unfold without end; nobody writes one.
		if strings.HasSuffix(text(resolve(item), "kind"), "List") {
			r.refuse(item, at, fault{field: join(at.Child("items").Index(i), "kind"), reason: "a list in a list: not supported"})
			continue
		}
		r.object(item, at.Child("items").Index(i), kind)
	}
}

// typed reads one object of a kind all the way, and either takes it or tells everything that is wrong with it.
func (r *reader) typed(root *yaml.Node, at *field.Path, name string) {
	of := kinds[name]
	check := strict{budget: &r.budget, hidden: of.hidden}
	plain := check.value(root, of.typ, at)
	if len(check.faults) > 0 {
		r.refuse(root, at, check.found()...)
		return
	}
	o, err := of.decode(plain)
	if err != nil {
		r.refuse(root, at, fault{reason: err.Error()})
		return
	}
	revision, faults := of.judge(o, at)
	if len(faults) > 0 {
		r.refuse(root, at, faults...)
		return
	}
	r.doc.objects = append(r.doc.objects, Object{
		Object: o, Kind: name, Revision: revision, File: r.file, Line: locate(root, "metadata.name").Line + r.offset,
	})
}

// decode makes an object of this kind of what strict has read.
func (k kind) decode(plain any) (metav1.Object, error) {
	fields := maps.Clone(plain.(map[string]any))
	fields["apiVersion"], fields["kind"] = k.version.String(), k.typ.Name()
	raw, err := json.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", k.typ.Name(), err)
	}
	o := reflect.New(k.typ).Interface().(metav1.Object)
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, o); err != nil {
		return nil, fmt.Errorf("read %s: %w", k.typ.Name(), err)
	}
	return o, nil
}

// refuse records what is wrong with the object at root, and whose it is.
func (r *reader) refuse(root *yaml.Node, at *field.Path, faults ...fault) {
	object := resolve(root)
	var owner Key
	if name := text(child(object, "metadata"), "name"); name != "" {
		owner.NamespacedName = types.NamespacedName{Namespace: metav1.NamespaceDefault, Name: name}
		if kind := text(object, "kind"); r.takes(kind) {
			owner.Kind = kind
		}
		if namespace := text(child(object, "metadata"), "namespace"); namespace != "" {
			owner.Namespace = namespace
		}
		if kinds[owner.Kind].clusterWide {
			owner.Namespace = ""
		}
	}
	for _, f := range faults {
		node := f.node
		if node == nil {
			node = locate(object, relative(f.field, at))
		}
		r.doc.refused = append(r.doc.refused, Refusal{
			File: r.file, Line: node.Line + r.offset, Column: node.Column, Field: f.field, Reason: f.reason, Of: owner,
		})
	}
}
