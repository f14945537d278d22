package table

import (
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/server"
)

// kinds are those that Kubernetes has columns for.
var kinds = map[schema.GroupResource]*kind{
	{Resource: "pods"}:                   show(server.PodColumns(), server.PodCells),
	{Resource: "configmaps"}:             show(always("Name", "Data", "Age"), configMap),
	{Resource: "secrets"}:                show(always("Name", "Type", "Data", "Age"), secret),
	{Resource: "namespaces"}:             show(always("Name", "Status", "Age"), namespace),
	{Resource: "serviceaccounts"}:        show(always("Name", "Age"), serviceAccount),
	{Resource: "nodes"}:                  show(nodeColumns(), node),
	{Resource: "events"}:                 show(eventColumns(), event),
	{Resource: "resourcequotas"}:         show(always("Name", "Request", "Limit", "Age"), resourceQuota),
	{Resource: "persistentvolumes"}:      show(volumeColumns(), volume),
	{Resource: "persistentvolumeclaims"}: show(claimColumns(), claim),
	{Resource: "services"}:               show(serviceColumns(), service),
	{Resource: "endpoints"}:              show(always("Name", "Endpoints", "Age"), endpoints),

	{Group: "discovery.k8s.io", Resource: "endpointslices"}:               show(always("Name", "AddressType", "Ports", "Endpoints", "Age"), endpointSlice),
	{Group: "events.k8s.io", Resource: "events"}:                          show(eventColumns(), newEvent),
	{Group: "coordination.k8s.io", Resource: "leases"}:                    show(always("Name", "Holder", "Age"), lease),
	{Group: "node.k8s.io", Resource: "runtimeclasses"}:                    show(always("Name", "Handler", "Age"), runtimeClass),
	{Group: "scheduling.k8s.io", Resource: "priorityclasses"}:             show(priorityClassColumns(), priorityClass),
	{Group: "rbac.authorization.k8s.io", Resource: "rolebindings"}:        show(bindingColumns(), roleBinding),
	{Group: "rbac.authorization.k8s.io", Resource: "clusterrolebindings"}: show(bindingColumns(), clusterRoleBinding),
	{Group: "metrics.k8s.io", Resource: "pods"}:                           show(usageColumns(), podMetrics),
	{Group: "metrics.k8s.io", Resource: "nodes"}:                          show(usageColumns(), nodeMetrics),
}

// other is what all other kinds are shown as.
var other = kind{
	[]metav1.TableColumnDefinition{{Name: "Name", Type: "string", Format: "name"}, {Name: "Created At", Type: "date"}},
	func(o runtime.Object, _ time.Time) ([]any, error) {
		m, err := meta.Accessor(o)
		if err != nil {
			return nil, fmt.Errorf("make table: %w", err)
		}
		return []any{m.GetName(), m.GetCreationTimestamp().UTC().Format(time.RFC3339)}, nil
	},
}

func configMap(c *v1.ConfigMap, now time.Time) []any {
	return []any{c.Name, int64(len(c.Data) + len(c.BinaryData)), age(c, now)}
}

func secret(s *v1.Secret, now time.Time) []any {
	return []any{s.Name, string(s.Type), int64(len(s.Data)), age(s, now)}
}

func namespace(n *v1.Namespace, now time.Time) []any {
	return []any{n.Name, string(n.Status.Phase), age(n, now)}
}

func serviceAccount(s *v1.ServiceAccount, now time.Time) []any {
	return []any{s.Name, age(s, now)}
}

func lease(l *coordinationv1.Lease, now time.Time) []any {
	return []any{l.Name, ptr.Deref(l.Spec.HolderIdentity, ""), age(l, now)}
}

func runtimeClass(c *nodev1.RuntimeClass, now time.Time) []any {
	return []any{c.Name, c.Handler, age(c, now)}
}

func priorityClassColumns() []metav1.TableColumnDefinition {
	columns := always("Name", "Value", "Global-Default", "Age", "PreemptionPolicy")
	columns[1].Type, columns[2].Type = "integer", "boolean"
	return columns
}

func priorityClass(c *schedulingv1.PriorityClass, now time.Time) []any {
	return []any{c.Name, int64(c.Value), c.GlobalDefault, age(c, now), string(ptr.Deref(c.PreemptionPolicy, ""))}
}

// age is since when an object is there.
func age(o metav1.Object, now time.Time) string {
	return server.Age(o.GetCreationTimestamp().Time, now)
}
