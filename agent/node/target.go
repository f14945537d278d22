package node

import (
	"cmp"
	"fmt"
	"strconv"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/agent/inputs"
	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/network"
	"github.com/podkeeper/podkeeper/runtime"
)

// Target is one container of a Pod's instance, or its sandbox. It is a copy: actions may read it while the worker goes on.
type Target struct {
	Pod        *v1.Pod
	Room       *v1.Pod // the same with the resources that its cgroup is to have room for
	Handler    string  // the runtime handler; "" is the one that the Pod names, else the default
	Revision   string
	Objects    inputs.Objects // that the Pod refers to
	Services   []*v1.Service  // that there are when the container is made
	Sandbox    int            // attempt of the sandbox
	Users      Users          // of the Pod's user namespace
	Level      string         // of SELinux, of the Pod where it has labels
	IPs        []string       // of the Pod
	Container  *v1.Container  // nil for the sandbox
	Beside     string         // the id of the container whose processes an ephemeral one sees; empty is none
	Attempt    int
	Leftover   bool   // something of this attempt may be there that was never started, and goes first
	Uncleaned  bool   // the instance before this one still has its task
	StopSignal string // the image's
	Overdue    bool   // it was told to end and killed: what the runtime cannot tell, the kernel may
}

// Of is the target of another attempt of the same container.
func (t Target) Of(attempt int) Target {
	t.Attempt = attempt
	return t
}

// handler is the name of the runtime handler, "" for the default. An instance that began before there were classes has none noted.
func (t Target) handler() string {
	return cmp.Or(t.Handler, ptr.Deref(t.Pod.Spec.RuntimeClassName, ""))
}

// SandboxID is the id of the Pod's sandbox.
func (t Target) SandboxID() string { return runtime.ID(string(t.Pod.UID), "", t.Sandbox) }

// ID is the id of the container.
func (t Target) ID() string { return runtime.ID(string(t.Pod.UID), t.Container.Name, t.Attempt) }

// Labels of what is made in containerd, by which it is found again.
const (
	labelNamespace = "io.kubernetes.pod.namespace"
	labelPod       = "io.kubernetes.pod.name"
	labelUID       = "io.kubernetes.pod.uid"
	labelContainer = "io.kubernetes.container.name"
	labelAttempt   = "podkeeper/attempt"
	labelSandbox   = "podkeeper/sandbox" // its attempt
	labelRevision  = "podkeeper/revision"
	labelIdentity  = "podkeeper/root"
	labelUsers     = "podkeeper/users" // of its user namespace, where it has one: first:count
)

func (n *Node) labels(t Target) map[string]string {
	all := map[string]string{
		labelNamespace: t.Pod.Namespace, labelPod: t.Pod.Name, labelUID: string(t.Pod.UID), labelContainer: t.Container.Name,
		labelAttempt: strconv.Itoa(t.Attempt), labelSandbox: strconv.Itoa(t.Sandbox), labelRevision: t.Revision, labelIdentity: n.Identity,
	}
	if t.Users.Count > 0 {
		all[labelUsers] = fmt.Sprintf("%d:%d", t.Users.First, t.Users.Count)
	}
	return all
}

// networkSandbox is what the network is told of a Pod.
func networkSandbox(t Target) network.Sandbox {
	s := network.Sandbox{ID: t.SandboxID(), PodNamespace: t.Pod.Namespace, PodName: t.Pod.Name, PodUID: string(t.Pod.UID)}
	for _, c := range plan.Containers(t.Pod) {
		for _, p := range c.Ports {
			if p.HostPort != 0 {
				s.Ports = append(s.Ports, network.Port{
					HostPort: p.HostPort, ContainerPort: p.ContainerPort, Protocol: string(p.Protocol), HostIP: p.HostIP,
				})
			}
		}
	}
	return s
}

// podName is how a Pod is named in logs.
func podName(pod *v1.Pod) string { return fmt.Sprintf("%s/%s", pod.Namespace, pod.Name) }
