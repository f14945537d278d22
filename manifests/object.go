package manifests

import (
	"encoding/json"
	"fmt"
	"reflect"

	"go.yaml.in/yaml/v3"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	corev1 "k8s.io/kubernetes/pkg/apis/core/v1"
	kjson "sigs.k8s.io/json"
)

// reader turns the objects of one document into Pods and refusals.
type reader struct {
	file   string
	offset int // lines of the file before the document
	doc    *document
	budget int // see strict
}

// fault is what is wrong with an object, before it is known whose it is.
type fault struct {
	node   *yaml.Node // where; nil for the object itself
	field  string
	reason string
}

// object reads one Kubernetes object: a Pod, or a list of them. Items of a PodList may leave out what kind they are.
func (r *reader) object(root *yaml.Node, at *field.Path, wantKind bool) {
	root = resolve(root)
	if root.Kind != yaml.MappingNode {
		r.refuse(root, at, fault{reason: "not a Kubernetes object: a manifest starts with apiVersion: v1 and kind: Pod"})
		return
	}
	kind, version := text(root, "kind"), text(root, "apiVersion")
	switch {
	case kind == "" && wantKind:
		r.refuse(root, at, fault{field: join(at, "kind"), reason: "missing: write kind: Pod"})
	case kind == "List" || kind == "PodList":
		if version != "v1" {
			r.refuseVersion(root, at, kind, version)
			return
		}
		r.list(root, at, kind == "List")
	case kind != "Pod" && wantKind:
		reason := fmt.Sprintf("kind %s: not supported: podkeeper runs Pods", kind)
		if near := nearest(kind, []string{"Pod", "List", "PodList"}); near != "" {
			reason += fmt.Sprintf("; did you mean %q?", near)
		}
		r.refuse(root, at, fault{node: locate(root, "kind"), field: join(at, "kind"), reason: reason})
	case version != "v1" && (wantKind || version != ""):
		r.refuseVersion(root, at, "Pod", version)
	default:
		r.pod(root, at)
	}
}

func (r *reader) refuseVersion(root *yaml.Node, at *field.Path, kind, version string) {
	reason := fmt.Sprintf("missing: a %s wants apiVersion: v1", kind)
	if version != "" {
		reason = fmt.Sprintf("%q: a %s wants apiVersion: v1", version, kind)
	}
	r.refuse(root, at, fault{node: locate(root, "apiVersion"), field: join(at, "apiVersion"), reason: reason})
}

// listHead is what a List has besides its items.
type listHead struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        metav1.ListMeta `json:"metadata"`
	Items           []struct{}      `json:"items"`
}

func (r *reader) list(root *yaml.Node, at *field.Path, wantKind bool) {
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
			r.refuse(root, at, fault{node: items, field: join(at, "items"), reason: "wants a list, not " + describe(items)})
		}
		return
	}
	for i, item := range items.Content {
		// A list in a list may, by way of YAML anchors, unfold without end; nobody writes one.
		if kind := text(resolve(item), "kind"); kind == "List" || kind == "PodList" {
			r.refuse(item, at, fault{field: join(at.Child("items").Index(i), "kind"), reason: "a list in a list: not supported"})
			continue
		}
		r.object(item, at.Child("items").Index(i), wantKind)
	}
}

// pod reads one Pod all the way, and either takes it or tells everything that is wrong with it.
func (r *reader) pod(root *yaml.Node, at *field.Path) {
	check := strict{budget: &r.budget}
	plain := check.value(root, reflect.TypeFor[v1.Pod](), at)
	if len(check.faults) > 0 {
		r.refuse(root, at, check.found()...)
		return
	}
	pod, err := typed(plain)
	if err != nil {
		r.refuse(root, at, fault{reason: err.Error()})
		return
	}
	revision, faults := judge(pod, at, corev1.SetObjectDefaults_Pod)
	if len(faults) > 0 {
		r.refuse(root, at, faults...)
		return
	}
	r.doc.pods = append(r.doc.pods, Pod{
		Pod: pod, Revision: revision, File: r.file, Line: locate(root, "metadata.name").Line + r.offset,
	})
}

func typed(plain any) (*v1.Pod, error) {
	raw, err := json.Marshal(plain)
	if err != nil {
		return nil, fmt.Errorf("read Pod: %w", err)
	}
	pod := new(v1.Pod)
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, pod); err != nil {
		return nil, fmt.Errorf("read Pod: %w", err)
	}
	pod.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
	return pod, nil
}

// refuse records what is wrong with the object at root, and whose it is.
func (r *reader) refuse(root *yaml.Node, at *field.Path, faults ...fault) {
	object := resolve(root)
	var owner types.NamespacedName
	if name := text(child(object, "metadata"), "name"); name != "" {
		owner = types.NamespacedName{Namespace: metav1.NamespaceDefault, Name: name}
		if namespace := text(child(object, "metadata"), "namespace"); namespace != "" {
			owner.Namespace = namespace
		}
	}
	for _, f := range faults {
		node := f.node
		if node == nil {
			node = locate(object, relative(f.field, at))
		}
		r.doc.refused = append(r.doc.refused, Refusal{
			File: r.file, Line: node.Line + r.offset, Column: node.Column, Field: f.field, Reason: f.reason, Pod: owner,
		})
	}
}
