package server

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/printers"
	resourcehelper "k8s.io/component-helpers/resource"
)

// PrintNode prints the node with the Pods on it as `kubectl describe node` does (kubernetes/kubernetes
// staging/src/k8s.io/kubectl/pkg/describe); output may be "json" or "yaml" instead of "". Ages count to now.
func PrintNode(w io.Writer, node *v1.Node, pods []v1.Pod, output string, now time.Time) error {
	var err error
	switch output {
	case "":
		err = describeNode(w, node, pods, now)
	case "json":
		err = (&printers.JSONPrinter{}).PrintObj(node, w)
	case "yaml":
		err = (&printers.YAMLPrinter{}).PrintObj(node, w)
	default:
		return fmt.Errorf("unknown output %q: it can be json or yaml", output)
	}
	if err != nil {
		return fmt.Errorf("print node: %w", err)
	}
	return nil
}

func describeNode(out io.Writer, node *v1.Node, pods []v1.Pod, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	say := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	say("Name:\t%s", node.Name)
	lines(say, "Labels", slices.Sorted(maps.Keys(node.Labels)), func(key string) string { return key + "=" + node.Labels[key] })
	lines(say, "Annotations", slices.Sorted(maps.Keys(node.Annotations)), func(key string) string { return key + ": " + node.Annotations[key] })
	lines(say, "Taints", node.Spec.Taints, func(t v1.Taint) string { return t.ToString() })
	say("Unschedulable:\t%v", node.Spec.Unschedulable)
	say("Conditions:")
	say("  Type\tStatus\tLastHeartbeatTime\tLastTransitionTime\tReason\tMessage")
	say("  ----\t------\t-----------------\t------------------\t------\t-------")
	at := func(t metav1.Time) string { return t.Format(time.RFC1123Z) }
	for _, c := range node.Status.Conditions {
		say("  %s\t%s\t%s\t%s\t%s\t%s", c.Type, c.Status, at(c.LastHeartbeatTime), at(c.LastTransitionTime), c.Reason, c.Message)
	}
	say("Addresses:")
	for _, a := range node.Status.Addresses {
		say("  %s:\t%s", a.Type, a.Address)
	}
	for _, of := range []struct {
		what string
		list v1.ResourceList
	}{{"Capacity", node.Status.Capacity}, {"Allocatable", node.Status.Allocatable}} {
		say("%s:", of.what)
		for _, name := range slices.Sorted(maps.Keys(of.list)) {
			q := of.list[name]
			say("  %s:\t%s", name, &q)
		}
	}
	i := node.Status.NodeInfo
	say("System Info:")
	for _, fact := range [][2]string{
		{"Machine ID", i.MachineID}, {"System UUID", i.SystemUUID}, {"Boot ID", i.BootID}, {"Kernel Version", i.KernelVersion}, {"OS Image", i.OSImage},
		{"Operating System", i.OperatingSystem}, {"Architecture", i.Architecture}, {"Container Runtime Version", i.ContainerRuntimeVersion}, {"Kubelet Version", i.KubeletVersion},
	} {
		say("  %s:\t%s", fact[0], fact[1])
	}
	requestsOf(say, node, pods, now)
	return w.Flush()
}

// lines prints one value a line, the first beside its name, as kubectl does of labels.
func lines[T any](say func(string, ...any), name string, values []T, text func(T) string) {
	if len(values) == 0 {
		say("%s:\t<none>", name)
	}
	for i, v := range values {
		if i > 0 {
			say("\t%s", text(v))
			continue
		}
		say("%s:\t%s", name, text(v))
	}
}

// requestsOf prints what Pods that have not ended request and are limited to, each and together, and which part that is of what the
// node has for them.
func requestsOf(say func(string, ...any), node *v1.Node, pods []v1.Pod, now time.Time) {
	has := node.Status.Allocatable
	part := func(name v1.ResourceName, q resource.Quantity) string {
		percent, all := int64(0), has[name]
		if !all.IsZero() {
			percent = int64(q.AsApproximateFloat64() / all.AsApproximateFloat64() * 100)
		}
		return fmt.Sprintf("%s (%d%%)", &q, percent)
	}
	pods = slices.DeleteFunc(slices.Clone(pods), func(p v1.Pod) bool {
		return p.Spec.NodeName == "" && p.Status.StartTime == nil || isTerminal(&p)
	})
	say("Non-terminated Pods:\t(%d in total)", len(pods))
	say("  Namespace\tName\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge")
	say("  ---------\t----\t------------\t----------\t---------------\t-------------\t---")
	requests, limits := v1.ResourceList{}, v1.ResourceList{}
	add := func(to, more v1.ResourceList) {
		for name, q := range more {
			sum := to[name]
			sum.Add(q)
			to[name] = sum
		}
	}
	asWritten := resourcehelper.PodResourcesOptions{UseStatusResources: true}
	for i := range pods {
		p := &pods[i]
		asks, may := resourcehelper.PodRequests(p, asWritten), resourcehelper.PodLimits(p, asWritten)
		add(requests, asks)
		add(limits, may)
		say("  %s\t%s\t%s\t%s\t%s\t%s\t%s", p.Namespace, p.Name, part(v1.ResourceCPU, asks[v1.ResourceCPU]), part(v1.ResourceCPU, may[v1.ResourceCPU]),
			part(v1.ResourceMemory, asks[v1.ResourceMemory]), part(v1.ResourceMemory, may[v1.ResourceMemory]), Age(p.CreationTimestamp.Time, now))
	}
	say("Allocated resources:")
	say("  (Total limits may be over 100 percent, i.e., overcommitted.)")
	say("  Resource\tRequests\tLimits")
	say("  --------\t--------\t------")
	names := []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory, v1.ResourceEphemeralStorage}
	for _, name := range slices.Sorted(maps.Keys(has)) {
		if name != v1.ResourcePods && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		if strings.Contains(string(name), "/") { // a count, of which there is no part
			asks, may := requests[name], limits[name]
			say("  %s\t%s\t%s", name, &asks, &may)
			continue
		}
		say("  %s\t%s\t%s", name, part(name, requests[name]), part(name, limits[name]))
	}
}
