package openapi

import (
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/yaml"
)

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestEveryKindHasASchema(t *testing.T) {
	types := NewTypes()
	for _, kind := range strings.Fields(`v1/Pod v1/ConfigMap v1/Secret v1/Namespace v1/Node v1/Event v1/ServiceAccount
		v1/LimitRange v1/ResourceQuota v1/PersistentVolume v1/PersistentVolumeClaim v1/Service v1/Endpoints
		scheduling.k8s.io/v1/PriorityClass node.k8s.io/v1/RuntimeClass coordination.k8s.io/v1/Lease
		discovery.k8s.io/v1/EndpointSlice events.k8s.io/v1/Event rbac.authorization.k8s.io/v1/Role
		rbac.authorization.k8s.io/v1/RoleBinding rbac.authorization.k8s.io/v1/ClusterRole
		rbac.authorization.k8s.io/v1/ClusterRoleBinding authentication.k8s.io/v1/SelfSubjectReview
		authentication.k8s.io/v1/TokenReview authentication.k8s.io/v1/TokenRequest
		authorization.k8s.io/v1/SelfSubjectAccessReview authorization.k8s.io/v1/SelfSubjectRulesReview
		authorization.k8s.io/v1/SubjectAccessReview authorization.k8s.io/v1/LocalSubjectAccessReview policy/v1/Eviction`) {
		i := strings.LastIndex(kind, "/")
		o := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": kind[:i], "kind": kind[i+1:], "metadata": map[string]any{"name": "x", "labels": map[string]any{"a": "b"}},
		}}
		v, err := types.ObjectToTyped(o)
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		back, err := types.TypedToObject(v)
		if err != nil {
			t.Errorf("%s: %v", kind, err)
		} else if diff := cmp.Diff(o, back); diff != "" {
			t.Errorf("%s comes back otherwise: %s", kind, diff)
		}
	}
}

func TestObjectsMergeAsKubernetesMergesThem(t *testing.T) {
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\n"
	for name, test := range map[string]struct{ old, new, want string }{
		"containers by name": {
			old:  pod + "spec: {containers: [{name: a, image: one}, {name: b, image: two}]}",
			new:  pod + "spec: {containers: [{name: b, image: three}]}",
			want: pod + "spec: {containers: [{name: a, image: one}, {name: b, image: three}]}",
		},
		"ports by number and protocol, the default being TCP": {
			old:  pod + "spec: {containers: [{name: a, ports: [{containerPort: 53, protocol: UDP}, {containerPort: 53, protocol: TCP, name: old}]}]}",
			new:  pod + "spec: {containers: [{name: a, ports: [{containerPort: 53, name: new}]}]}",
			want: pod + "spec: {containers: [{name: a, ports: [{containerPort: 53, protocol: UDP}, {containerPort: 53, protocol: TCP, name: new}]}]}",
		},
		"arguments as a whole": {
			old:  pod + "spec: {containers: [{name: a, args: [one, two]}]}",
			new:  pod + "spec: {containers: [{name: a, args: [three]}]}",
			want: pod + "spec: {containers: [{name: a, args: [three]}]}",
		},
		"finalizers as a set": {
			old:  "apiVersion: v1\nkind: ConfigMap\nmetadata: {finalizers: [a/a]}",
			new:  "apiVersion: v1\nkind: ConfigMap\nmetadata: {finalizers: [b/b]}",
			want: "apiVersion: v1\nkind: ConfigMap\nmetadata: {finalizers: [a/a, b/b]}",
		},
		"rules of a Role as a whole": {
			old:  "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nrules: [{verbs: [get]}]",
			new:  "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nrules: [{verbs: [list]}]",
			want: "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nrules: [{verbs: [list]}]",
		},
	} {
		t.Run(name, func(t *testing.T) {
			types := NewTypes()
			var values []*typed.TypedValue
			for _, text := range []string{test.old, test.new} {
				v, err := types.ObjectToTyped(object(t, text))
				if err != nil {
					t.Fatal(err)
				}
				values = append(values, v)
			}
			merged, err := values[0].Merge(values[1])
			if err != nil {
				t.Fatal(err)
			}
			got, err := types.TypedToObject(merged)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(object(t, test.want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhatCannotBeTyped(t *testing.T) {
	for name, test := range map[string]struct{ object, want string }{
		"a group version that is not served": {"apiVersion: apps/v1\nkind: Deployment", "no schema of apps/v1, Kind=Deployment"},
		"a kind that is not served":          {"apiVersion: v1\nkind: ReplicationController", "no corresponding type for /v1, Kind=ReplicationController"},
		"a field that does not exist":        {"apiVersion: v1\nkind: Pod\nspec: {contaienrs: []}", ".spec.contaienrs: field not declared in schema"},
		"two containers of one name":         {"apiVersion: v1\nkind: Pod\nspec: {containers: [{name: a}, {name: a}]}", "duplicate entries for key"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewTypes().ObjectToTyped(object(t, test.object))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, not %s", err, test.want)
			}
		})
	}
}

func TestTypesAreReadOnceForAll(t *testing.T) {
	types, wg := NewTypes(), sync.WaitGroup{}
	for range 8 {
		wg.Go(func() {
			if _, err := types.ObjectToTyped(object(t, "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nhandler: runc")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
