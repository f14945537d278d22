package manifests

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// ofEveryKind is an object of each kind, and, where not all of it may be edited, text of it and what that is edited to.
var ofEveryKind = map[string]struct {
	manifest   string
	text, edit string
	says       string
}{
	KindPod:       {manifest("x"), "containers:", "hostNetwork: true\n  containers:", "spec: Forbidden: pod updates may not change fields other than"},
	KindConfigMap: {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\nimmutable: true\n", "immutable: true", "immutable: false", "immutable: Forbidden: field is immutable when `immutable` is set"},
	KindSecret:    {"apiVersion: v1\nkind: Secret\nmetadata: {name: x}\ntype: mine\n", "type: mine", "type: yours", "type: Invalid value: \"yours\": field is immutable"},
	KindClaim: {"apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: x}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n",
		"ReadWriteOnce", "ReadWriteMany", "spec: Forbidden: spec is immutable after creation"},
	KindVolume: {"apiVersion: v1\nkind: PersistentVolume\nmetadata: {name: x}\nspec: {accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}, hostPath: {path: /x}}\n",
		"/x", "/y", "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"},
	KindNamespace:      {"apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n", "name: x", "name: \"y\"", "metadata.name: Invalid value: \"y\": field is immutable"},
	KindServiceAccount: {"apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: x}\n", "name: x", "name: \"y\"", "metadata.name: Invalid value: \"y\": field is immutable"},
	KindService: {"apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {clusterIP: 10.0.0.1, selector: {app: web}, ports: [{port: 80}]}\n",
		"10.0.0.1", "10.0.0.2", "may not change once set"},
	KindEndpoints: {"apiVersion: v1\nkind: Endpoints\nmetadata: {name: x}\nsubsets: [{addresses: [{ip: 10.0.0.1}], ports: [{port: 80}]}]\n",
		"10.0.0.1", "127.0.0.1", "may not be in the loopback range"},
	KindEndpointSlice: {"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: x}\naddressType: IPv4\nendpoints: [{addresses: [10.0.0.1]}]\nports: [{port: 80}]\n",
		"addressType: IPv4\nendpoints: [{addresses: [10.0.0.1]}]", "addressType: FQDN\nendpoints: [{addresses: [a.b]}]", "addressType: Invalid value: \"FQDN\": field is immutable"},
	KindLimitRange:    {"apiVersion: v1\nkind: LimitRange\nmetadata: {name: x}\nspec: {limits: [{type: Container, max: {cpu: 1}}]}\n", "type: Container", "type: Nothing", "Invalid value: \"Nothing\""},
	KindResourceQuota: {"apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: x}\nspec: {hard: {pods: 1}, scopes: [NotTerminating]}\n", "NotTerminating", "Terminating", "field is immutable"},
	KindPriorityClass: {"apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: x}\nvalue: 1\n", "value: 1", "value: 2", "may not be changed in an update"},
	KindRuntimeClass:  {"apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: x}\nhandler: runc\n", "handler: runc", "handler: crun", "handler: Invalid value: \"crun\": field is immutable"},
	KindLease: {"apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {name: x}\nspec: {holderIdentity: me, renewTime: \"2026-01-02T03:04:05.000006Z\", leaseDurationSeconds: 1}\n",
		"leaseDurationSeconds: 1", "leaseDurationSeconds: 0", "must be greater than 0"},
	KindRole:        {"apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: x}\nrules: [{apiGroups: [\"\"], resources: [pods], verbs: [get]}]\n", "[get]", "[]", "verbs must contain at least one value"},
	KindClusterRole: {"apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: x}\nrules: [{nonResourceURLs: [/metrics], verbs: [get]}]\n", "[get]", "[]", "verbs must contain at least one value"},
	KindRoleBinding: {"apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: x}\nsubjects: [{kind: User, name: me}]\nroleRef: {kind: Role, name: reader}\n",
		"name: reader", "name: writer", "field is immutable"},
	KindClusterRoleBinding: {"apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: x}\nsubjects: [{kind: Group, name: us}]\nroleRef: {kind: ClusterRole, name: reader}\n",
		"name: reader", "name: writer", "field is immutable"},
	KindEvent: {"apiVersion: v1\nkind: Event\nmetadata: {name: x}\ninvolvedObject: {kind: Pod, name: web, namespace: default}\nreason: Seen\n", "namespace: default", "namespace: other",
		"does not match event.namespace"},
	KindNode: {"apiVersion: v1\nkind: Node\nmetadata: {name: x}\nspec: {unschedulable: true, taints: [{key: a, effect: NoSchedule}]}\n", "NoSchedule", "NoExecute",
		`spec.taints[0].effect: Forbidden: "NoExecute": not supported`},
}

// readOne is the one object of a manifest.
func readOne(t *testing.T, text string) Object {
	t.Helper()
	set := DecodeKept("x.yaml", []byte(text))
	for _, p := range set.Pods {
		set.Objects = append(set.Objects, Object{Object: p.Pod, Kind: KindPod})
	}
	if len(set.Objects) != 1 || len(set.Refused) > 0 {
		t.Fatalf("%d objects, refused: %q", len(set.Objects), messages(set.Refused))
	}
	return set.Objects[0]
}

// unjudged is an object of a kind with Kubernetes' defaults, whatever else is wrong with it.
func unjudged(t *testing.T, kind, text string) metav1.Object {
	t.Helper()
	o := reflect.New(kinds[kind].typ).Interface().(metav1.Object)
	if err := yaml.UnmarshalStrict([]byte(text), o); err != nil {
		t.Fatal(err)
	}
	if !kinds[kind].clusterWide {
		o.SetNamespace(metav1.NamespaceDefault)
	}
	Default(o)
	return o
}

func TestEveryKindIsReadAndEditedAsInKubernetes(t *testing.T) {
	t.Parallel()
	for _, name := range allKinds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, ok := ofEveryKind[name]
			if !ok {
				t.Fatal("no example")
			}
			was := readOne(t, c.manifest)
			gvk := was.Object.(runtime.Object).GetObjectKind().GroupVersionKind()
			if gvk.Kind != name || gvk.GroupVersion() != kinds[name].version {
				t.Errorf("it is a %s", gvk)
			}
			if kind, clusterWide := KindOf(ResourceOf(name)); kind != name || clusterWide != (was.GetNamespace() == "") {
				t.Errorf("%s is %q, in no namespace: %v", ResourceOf(name), kind, clusterWide)
			}
			if faults := append(Check(was.Object), CheckEdit(was.Object, was.Object)...); len(faults) > 0 {
				t.Errorf("what is accepted is not: %v", faults)
			}
			if !strings.Contains(c.manifest, c.text) {
				t.Fatalf("there is no %s", c.text)
			}
			now := unjudged(t, name, strings.Replace(c.manifest, c.text, c.edit, 1))
			now.SetUID(was.GetUID())
			if faults := CheckEdit(now, was.Object); !strings.Contains(fmt.Sprint(faults), c.says) {
				t.Errorf("%s is told %v, want %q", c.edit, faults, c.says)
			}
		})
	}
}
