package server

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// Container states, and edits of a Pod, for the rows of the tests.

func waiting(reason string) v1.ContainerState {
	return v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: reason}}
}

func ended(reason string, code, signal int32) v1.ContainerState {
	return v1.ContainerState{Terminated: &v1.ContainerStateTerminated{Reason: reason, ExitCode: code, Signal: signal}}
}

var running = v1.ContainerState{Running: &v1.ContainerStateRunning{}}

// container is a container status that is ready when it runs.
func container(name string, state v1.ContainerState) v1.ContainerStatus {
	started := state.Running != nil
	return v1.ContainerStatus{Name: name, State: state, Ready: started, Started: &started}
}

func unready(c v1.ContainerStatus) v1.ContainerStatus { c.Ready = false; return c }

func restarted(c v1.ContainerStatus, n int32, ago time.Duration) v1.ContainerStatus {
	c.RestartCount = n
	c.LastTerminationState.Terminated = &v1.ContainerStateTerminated{FinishedAt: metav1.NewTime(now.Add(-ago))}
	return c
}

// pod has the containers of its statuses in its spec; an init container whose name starts with "side" is a sidecar.
func pod(phase v1.PodPhase, init, main []v1.ContainerStatus, edits ...func(*v1.Pod)) v1.Pod {
	p := v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", CreationTimestamp: metav1.NewTime(now.Add(-90 * time.Second))},
		Status:     v1.PodStatus{Phase: phase, InitContainerStatuses: init, ContainerStatuses: main},
	}
	always := v1.ContainerRestartPolicyAlways
	for _, c := range init {
		spec := v1.Container{Name: c.Name}
		if strings.HasPrefix(c.Name, "side") {
			spec.RestartPolicy = &always
		}
		p.Spec.InitContainers = append(p.Spec.InitContainers, spec)
	}
	for _, c := range main {
		p.Spec.Containers = append(p.Spec.Containers, v1.Container{Name: c.Name})
	}
	for _, edit := range edits {
		edit(&p)
	}
	return p
}

func with(t v1.PodConditionType, reason string) func(*v1.Pod) {
	return func(p *v1.Pod) {
		p.Status.Conditions = append(p.Status.Conditions, v1.PodCondition{Type: t, Status: v1.ConditionTrue, Reason: reason})
	}
}

func reason(r string) func(*v1.Pod) { return func(p *v1.Pod) { p.Status.Reason = r } }

func deleted(p *v1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: now} }

type statuses = []v1.ContainerStatus

func TestTable(t *testing.T) {
	t.Parallel()
	done := container("setup", ended("Completed", 0, 0))
	queued := container("app", waiting("PodInitializing"))
	app := container("app", running)
	tests := map[string]struct {
		pod  v1.Pod
		want string // READY STATUS RESTARTS
	}{
		"a running Pod is Running":                         {pod("Running", nil, statuses{app}), "1/1 Running 0"},
		"a Pod without statuses shows its phase":           {pod("Pending", nil, nil, func(p *v1.Pod) { p.Spec.Containers = make([]v1.Container, 2) }), "0/2 Pending 0"},
		"a reason of the Pod's stands before the phase":    {pod("Failed", nil, nil, reason("Evicted")), "0/0 Evicted 0"},
		"a refused Pod shows why":                          {pod("Pending", nil, nil, reason("OutOfcpu")), "0/0 OutOfcpu 0"},
		"a gated Pod is SchedulingGated":                   {pod("Pending", nil, nil, with(v1.PodScheduled, "SchedulingGated")), "0/0 SchedulingGated 0"},
		"a container being made is ContainerCreating":      {pod("Pending", nil, statuses{container("app", waiting("ContainerCreating"))}), "0/1 ContainerCreating 0"},
		"an image that cannot be had is ImagePullBackOff":  {pod("Pending", nil, statuses{container("app", waiting("ImagePullBackOff"))}), "0/1 ImagePullBackOff 0"},
		"a running Pod that is not ready is Running":       {pod("Running", nil, statuses{unready(app)}), "0/1 Running 0"},
		"a crashing container is CrashLoopBackOff":         {pod("Running", nil, statuses{restarted(container("app", waiting("CrashLoopBackOff")), 3, 5*time.Minute)}), "0/1 CrashLoopBackOff 3 (5m ago)"},
		"restarts without a known time are a number":       {pod("Running", nil, statuses{func() v1.ContainerStatus { c := app; c.RestartCount = 2; return c }()}), "1/1 Running 2"},
		"restarts add up and the latest is told":           {pod("Running", nil, statuses{restarted(app, 1, time.Hour), restarted(container("log", running), 2, time.Minute)}), "2/2 Running 3 (60s ago)"},
		"the first container in trouble gives the status":  {pod("Running", nil, statuses{container("a", waiting("CrashLoopBackOff")), container("b", ended("Error", 1, 0))}), "0/2 CrashLoopBackOff 0"},
		"a Pod that is done is Completed":                  {pod("Succeeded", nil, statuses{container("app", ended("Completed", 0, 0))}), "0/1 Completed 0"},
		"a Pod that failed shows the reason":               {pod("Failed", nil, statuses{container("app", ended("OOMKilled", 137, 0))}), "0/1 OOMKilled 0"},
		"without a reason it is the exit status":           {pod("Failed", nil, statuses{container("app", ended("", 3, 0))}), "0/1 ExitCode:3 0"},
		"without a reason it is the signal first":          {pod("Failed", nil, statuses{container("app", ended("", 137, 9))}), "0/1 Signal:9 0"},
		"one done, one running and ready is Running":       {pod("Running", nil, statuses{container("job", ended("Completed", 0, 0)), app}, with(v1.PodReady, "")), "1/2 Running 0"},
		"one done, one running and not ready is NotReady":  {pod("Running", nil, statuses{container("job", ended("Completed", 0, 0)), app}), "1/2 NotReady 0"},
		"one done, another failed shows the failure":       {pod("Failed", nil, statuses{container("job", ended("Completed", 0, 0)), container("app", ended("Error", 1, 0))}), "0/2 Error 0"},
		"a Pod being stopped is Terminating":               {pod("Running", nil, statuses{app}, deleted), "1/1 Terminating 0"},
		"a Pod that is done stays so when it is removed":   {pod("Succeeded", nil, statuses{container("app", ended("Completed", 0, 0))}, deleted), "0/1 Completed 0"},
		"the first init container at work is Init:0/2":     {pod("Pending", statuses{container("setup", running), container("more", waiting("PodInitializing"))}, statuses{queued}), "0/1 Init:0/2 0"},
		"the second init container at work is Init:1/2":    {pod("Pending", statuses{done, container("more", running)}, statuses{queued}), "0/1 Init:1/2 0"},
		"an init container that waits its turn is counted": {pod("Pending", statuses{container("setup", waiting("PodInitializing"))}, statuses{queued}), "0/1 Init:0/1 0"},
		"an init container that failed is Init:Error":      {pod("Pending", statuses{container("setup", ended("Error", 1, 0))}, statuses{queued}), "0/1 Init:Error 0"},
		"an init container's exit status is told":          {pod("Pending", statuses{container("setup", ended("", 1, 0))}, statuses{queued}), "0/1 Init:ExitCode:1 0"},
		"an init container's signal is told":               {pod("Pending", statuses{container("setup", ended("", 137, 9))}, statuses{queued}), "0/1 Init:Signal:9 0"},
		"a crashing init container is told with its count": {pod("Pending", statuses{restarted(container("setup", waiting("CrashLoopBackOff")), 4, time.Minute)}, statuses{queued}), "0/1 Init:CrashLoopBackOff 4 (60s ago)"},
		"after all init containers it is PodInitializing":  {pod("Pending", statuses{done}, statuses{queued}), "0/1 PodInitializing 0"},
		"restarts of init containers count only meanwhile": {pod("Running", statuses{restarted(done, 4, time.Minute)}, statuses{app}), "1/1 Running 0"},
		"a sidecar counts in both numbers":                 {pod("Running", statuses{container("side", running)}, statuses{app}), "2/2 Running 0"},
		"a sidecar that is not ready counts in one":        {pod("Running", statuses{unready(container("side", running))}, statuses{app}), "1/2 Running 0"},
		"a sidecar that has not started holds back":        {pod("Pending", statuses{container("side", waiting("ErrImagePull")), done}, statuses{queued}), "0/2 Init:ErrImagePull 0"},
		"restarts of sidecars count all the time":          {pod("Running", statuses{restarted(container("side", running), 2, time.Hour)}, statuses{restarted(app, 1, 2*time.Hour)}), "2/2 Running 3 (60m ago)"},
		"a sidecar that crashes later shows as the init it is": {
			pod("Running", statuses{container("side", waiting("CrashLoopBackOff"))}, statuses{app}, with(v1.PodInitialized, "")), "1/2 Init:CrashLoopBackOff 0",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := look(&tt.pod)
			got := strings.Join([]string{l.readyCell(&tt.pod), l.status, l.restarts.cell(now)}, " ")
			if got != tt.want {
				t.Errorf("the row says %q, want %q", got, tt.want)
			}
		})
	}
}

func twoPods() *v1.PodList {
	app := pod("Running", nil, statuses{container("app", running)}, with("gate/a", ""), func(p *v1.Pod) {
		p.Spec.NodeName = "node1"
		p.Spec.ReadinessGates = []v1.PodReadinessGate{{ConditionType: "gate/a"}, {ConditionType: "gate/b"}}
		p.Status.PodIPs = []v1.PodIP{{IP: "10.88.0.5"}, {IP: "fd00::5"}}
		p.Status.NominatedNodeName = "node2"
	})
	other := pod("Pending", nil, nil, func(p *v1.Pod) {
		p.Namespace, p.Name, p.CreationTimestamp = "shop", "db", metav1.Time{}
	})
	return &v1.PodList{Items: []v1.Pod{app, other}}
}

func TestPrintPods(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		output, namespace, want string
	}{
		"the table is kubectl's, the namespace first": {"", "", `
NAMESPACE   NAME   READY   STATUS    RESTARTS   AGE
default     web    1/1     Running   0          90s
shop        db     0/0     Pending   0          <unknown>
`},
		"wide tells more": {"wide", "", `
NAMESPACE   NAME   READY   STATUS    RESTARTS   AGE         IP          NODE     NOMINATED NODE   READINESS GATES
default     web    1/1     Running   0          90s         10.88.0.5   node1    node2            1/2
shop        db     0/0     Pending   0          <unknown>   <none>      <none>   <none>           <none>
`},
		"a namespace narrows it down":         {"", "shop", "\nNAME   READY   STATUS    RESTARTS   AGE\ndb     0/0     Pending   0          <unknown>\n"},
		"a namespace without Pods says so":    {"", "empty", "\nNo resources found in empty namespace.\n"},
		"names are for scripts":               {"name", "", "\npod/web\npod/db\n"},
		"a jsonpath finds its way":            {"jsonpath={.items[*].metadata.name} {.items[0].metadata.creationTimestamp}", "", "\nweb db 2026-11-23T11:58:30Z"},
		"a jsonpath to nothing is nothing":    {"jsonpath={.items[*].spec.nope}", "", "\n"},
		"no names are nothing":                {"name", "empty", "\n"},
		"an empty list is one for a jsonpath": {"jsonpath={.kind} {.items}", "empty", "\nList []"},
		"an empty list is one in YAML":        {"yaml", "empty", "\napiVersion: v1\nitems: []\nkind: List\nmetadata:\n  resourceVersion: \"\"\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b strings.Builder
			if err := PrintPods(&b, twoPods(), tt.output, tt.namespace, now); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.TrimPrefix(tt.want, "\n"), b.String()); diff != "" {
				t.Errorf("printed (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPrintPodsNothingAtAll(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := PrintPods(&b, &v1.PodList{}, "", "", now); err != nil || b.String() != "No resources found\n" {
		t.Errorf("printed %q, %v", b.String(), err)
	}
}

func TestPrintPodsJSONIsAListOfPods(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := PrintPods(&b, twoPods(), "json", "", now); err != nil {
		t.Fatal(err)
	}
	var got struct {
		APIVersion, Kind string
		Items            []v1.Pod
	}
	if err := json.Unmarshal([]byte(b.String()), &got); err != nil {
		t.Fatal(err)
	}
	if got.APIVersion != "v1" || got.Kind != "List" || len(got.Items) != 2 || got.Items[0].Kind != "Pod" || got.Items[0].APIVersion != "v1" {
		t.Errorf("printed %s", b.String())
	}
	got.Items[0].TypeMeta = metav1.TypeMeta{}
	if diff := cmp.Diff(twoPods().Items[0].Spec, got.Items[0].Spec); diff != "" {
		t.Errorf("the spec (-want +got):\n%s", diff)
	}
}

func TestPrintPodsRefusesOutputs(t *testing.T) {
	t.Parallel()
	for output, want := range map[string]string{
		"tabel":         `print pods: unknown output "tabel": it can be wide, json, yaml, name or jsonpath=TEMPLATE`,
		"jsonpath={.a[": "print pods: read jsonpath={.a[: ",
	} {
		err := PrintPods(&strings.Builder{}, twoPods(), output, "", now)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %q", output, err, want)
		}
	}
}

func TestPrintRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		m    Manifests
		want string
	}{
		"nothing to mend prints nothing": {Manifests{}, ""},
		"a fault is file, line, column, field, reason": {
			Manifests{Refused: []Refused{{File: "web.yaml", Line: 12, Column: 7, Field: "spec.containers[0].image", Reason: "Required value"}}},
			"\nTo be mended:\nweb.yaml:12:7: spec.containers[0].image: Required value\n",
		},
		"what is not known is left out": {
			Manifests{Refused: []Refused{{File: "a.yaml", Line: 3, Reason: "not YAML"}, {File: "b.yaml", Reason: "is empty", Kept: true}}},
			"\nTo be mended:\na.yaml:3: not YAML\nb.yaml: is empty (the last good version of it stays)\n",
		},
		"a Pod that stays as it was is named": {
			Manifests{Refused: []Refused{{File: "a.yaml", Reason: "not YAML", Namespace: "shop", Name: "db", Kept: true}}},
			"\nTo be mended:\na.yaml: not YAML (the last good version of shop/db stays)\n",
		},
		"a folder that cannot be read comes first": {
			Manifests{Directory: "/etc/m", Error: "permission denied", Refused: []Refused{{File: "a.yaml", Reason: "not YAML"}}},
			"\nTo be mended:\n/etc/m: permission denied\na.yaml: not YAML\n",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b strings.Builder
			if err := PrintRefused(&b, &tt.m); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, b.String()); diff != "" {
				t.Errorf("printed (-want +got):\n%s", diff)
			}
		})
	}
}
