package table

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	"sigs.k8s.io/yaml"
)

// noon is when all tables are made.
func noon() time.Time { return time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC) }

// object reads a manifest into the type of its kind.
func object(t *testing.T, text string) runtime.Object {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, metricsv1beta1.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	var of metav1.TypeMeta
	if err := yaml.Unmarshal([]byte(text), &of); err != nil {
		t.Fatal(err)
	}
	o, err := s.New(of.GroupVersionKind())
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict([]byte(text), o); err != nil {
		t.Fatal(err)
	}
	return o
}

func convert(t *testing.T, resource string, o, options runtime.Object) *metav1.Table {
	t.Helper()
	table, err := Of(schema.ParseGroupResource(resource), noon).ConvertToTable(context.Background(), o, options)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestColumns(t *testing.T) {
	for resource, want := range map[string]string{ // those of -o wide are in parentheses
		"pods":                                   "Name, Ready, Status, Restarts, Age, (IP), (Node), (Nominated Node), (Readiness Gates)",
		"configmaps":                             "Name, Data, Age",
		"secrets":                                "Name, Type, Data, Age",
		"namespaces":                             "Name, Status, Age",
		"serviceaccounts":                        "Name, Age",
		"nodes":                                  "Name, Status, Roles, Age, Version, (Internal-IP), (External-IP), (OS-Image), (Kernel-Version), (Container-Runtime)",
		"events":                                 "Last Seen, Type, Reason, Object, (Subobject), (Source), Message, (First Seen), (Count), (Name)",
		"events.events.k8s.io":                   "Last Seen, Type, Reason, Object, (Subobject), (Source), Message, (First Seen), (Count), (Name)",
		"limitranges":                            "Name, Created At date",
		"resourcequotas":                         "Name, Request, Limit, Age",
		"persistentvolumes":                      "Name, Capacity, Access Modes, Reclaim Policy, Status, Claim, StorageClass, VolumeAttributesClass, Reason, Age, (VolumeMode)",
		"persistentvolumeclaims":                 "Name, Status, Volume, Capacity, Access Modes, StorageClass, VolumeAttributesClass, Age, (VolumeMode)",
		"services":                               "Name, Type, Cluster-IP, External-IP, Port(s), Age, (Selector)",
		"endpoints":                              "Name, Endpoints, Age",
		"endpointslices.discovery.k8s.io":        "Name, AddressType, Ports, Endpoints, Age",
		"leases.coordination.k8s.io":             "Name, Holder, Age",
		"runtimeclasses.node.k8s.io":             "Name, Handler, Age",
		"priorityclasses.scheduling.k8s.io":      "Name, Value integer, Global-Default boolean, Age, PreemptionPolicy",
		"roles.rbac.authorization.k8s.io":        "Name, Created At date",
		"clusterroles.rbac.authorization.k8s.io": "Name, Created At date",
		"rolebindings.rbac.authorization.k8s.io": "Name, Role, Age, (Users), (Groups), (ServiceAccounts)",
		"clusterrolebindings.rbac.authorization.k8s.io": "Name, Role, Age, (Users), (Groups), (ServiceAccounts)",
		"pods.metrics.k8s.io":                           "Name, cpu, memory, Window",
		"nodes.metrics.k8s.io":                          "Name, cpu, memory, Window",
	} {
		var got []string
		for _, c := range Of(schema.ParseGroupResource(resource), noon).kind.columns {
			text := c.Name
			if c.Priority > 0 {
				text = "(" + text + ")"
			}
			if c.Type != "string" {
				text += " " + c.Type
			}
			if (c.Format == "name") != (c.Name == "Name") {
				t.Errorf("%s: column %s has format %q", resource, c.Name, c.Format)
			}
			got = append(got, text)
		}
		if diff := cmp.Diff(want, strings.Join(got, ", ")); diff != "" {
			t.Errorf("%s: %s", resource, diff)
		}
	}
}

func TestListsBecomeTables(t *testing.T) {
	const list = `{apiVersion: v1, kind: ConfigMapList, metadata: {resourceVersion: "7", continue: more, remainingItemCount: 5}, items: [%s]}`
	const two = `{metadata: {name: a}}, {metadata: {name: b, creationTimestamp: "2026-05-01T11:00:00Z"}, data: {x: "1"}, binaryData: {y: ""}}`
	got := convert(t, "configmaps", object(t, fmt.Sprintf(list, two)), nil)
	if got.ResourceVersion != "7" || got.Continue != "more" || *got.RemainingItemCount != 5 {
		t.Errorf("the table's metadata is %v", got.ListMeta)
	}
	if len(got.Rows) != 2 {
		t.Fatalf("there are %d rows", len(got.Rows))
	}
	if diff := cmp.Diff([]any{"b", int64(2), "60m"}, got.Rows[1].Cells); diff != "" {
		t.Error(diff)
	}
	if name := got.Rows[1].Object.Object.(*v1.ConfigMap).Name; name != "b" {
		t.Errorf("the second row's object is %s", name)
	}
	text, err := json.Marshal(convert(t, "configmaps", object(t, fmt.Sprintf(list, "")), nil))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), `"rows":[]`) {
		t.Errorf("an empty list is %s", text)
	}
}

func TestASingleObjectsVersionIsTheTables(t *testing.T) {
	got := convert(t, "configmaps", object(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: a, resourceVersion: "8"}}`), nil)
	if got.ResourceVersion != "8" || len(got.Rows) != 1 {
		t.Errorf("version %s and %d rows", got.ResourceVersion, len(got.Rows))
	}
}

func TestHeadersAreLeftOutForWhoWantsNone(t *testing.T) {
	o := object(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}`)
	for name, test := range map[string]struct {
		options runtime.Object
		want    int
	}{
		"no options":      {nil, 3},
		"options of none": {(*metav1.TableOptions)(nil), 3},
		"empty options":   {&metav1.TableOptions{}, 3},
		"no headers":      {&metav1.TableOptions{NoHeaders: true}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got := convert(t, "configmaps", o, test.options)
			if len(got.ColumnDefinitions) != test.want || len(got.Rows) != 1 {
				t.Errorf("%d columns, not %d, and %d rows", len(got.ColumnDefinitions), test.want, len(got.Rows))
			}
		})
	}
}

func TestWhatIsNoTable(t *testing.T) {
	for name, test := range map[string]struct {
		object, options runtime.Object
		want            string
	}{
		"an object of another kind": {&v1.Secret{}, nil, "make table: *v1.Secret where *v1.ConfigMap is expected"},
		"a list of another kind":    {&v1.SecretList{Items: make([]v1.Secret, 1)}, nil, "make table: *v1.Secret where *v1.ConfigMap is expected"},
		"options of another kind":   {&v1.ConfigMap{}, &metav1.ListOptions{}, "make table: options of type *v1.ListOptions are not known"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Of(schema.GroupResource{Resource: "configmaps"}, noon).ConvertToTable(context.Background(), test.object, test.options)
			if err == nil || err.Error() != test.want {
				t.Errorf("error %v, not %s", err, test.want)
			}
		})
	}
}

func TestPodsThatAreOverAreMarked(t *testing.T) {
	for phase, want := range map[v1.PodPhase]string{
		v1.PodRunning: "", v1.PodSucceeded: "The pod has completed successfully.", v1.PodFailed: "The pod failed.",
	} {
		row := convert(t, "pods", &v1.Pod{Status: v1.PodStatus{Phase: phase}}, nil).Rows[0]
		got := ""
		for _, c := range row.Conditions {
			if c.Type != metav1.RowCompleted || c.Reason != string(phase) {
				t.Errorf("%s: %v", phase, c)
			}
			got = c.Message
		}
		if got != want {
			t.Errorf("%s: %q, not %q", phase, got, want)
		}
	}
}
