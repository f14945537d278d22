package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"
)

// podLimit is the memory that the cgroup around a container's lets a Pod have.
func (n *node) podLimit(p *v1.Pod) string {
	n.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", n.pid(p, "app")))
	if err != nil {
		n.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, path, _ := strings.Cut(rest, ":")
		file := filepath.Join("/sys/fs/cgroup", filepath.Dir(path), "memory.max")
		if controllers != "" {
			file = filepath.Join("/sys/fs/cgroup/memory", filepath.Dir(path), "memory.limit_in_bytes")
		}
		if value, err := os.ReadFile(file); err == nil && (controllers == "" || strings.Contains(controllers, "memory")) {
			return strings.TrimSpace(string(value))
		}
	}
	n.t.Fatalf("there is no limit in %s", text)
	return ""
}

// handler is what containerd was told of the runtime of a container.
func (n *node) handler(p *v1.Pod) string {
	n.t.Helper()
	c, ctx, err := n.ctr()
	if err != nil {
		n.t.Fatal(err)
	}
	defer c.Close()
	found, err := c.LoadContainer(ctx, strings.TrimPrefix(containerStatus(p, "app").ContainerID, "containerd://"))
	if err != nil {
		n.t.Fatal(err)
	}
	record, err := found.Info(ctx)
	if err != nil {
		n.t.Fatal(err)
	}
	return string(record.Runtime.Options.GetValue())
}

// secondHandler is one beside the default: crun where it is installed and can run, else runc by another path.
func (n *node) secondHandler() (name, program string) {
	n.t.Helper()
	crun, err := exec.LookPath("crun")
	if _, v1 := os.Stat("/sys/fs/cgroup/memory"); err == nil && v1 != nil { // crun refuses a hybrid layout
		return "crun", crun
	}
	n.t.Logf("crun is not tried: it is not installed (%v), or this host has cgroup v1", err)
	runc, err := exec.LookPath("runc")
	if err != nil {
		n.t.Fatal(err)
	}
	program = n.path("second")
	if err := os.Symlink(runc, program); err != nil {
		n.t.Fatal(err)
	}
	n.flags = append(n.flags, "--runtime-handler", "second=io.containerd.runc.v2,BinaryName="+program)
	n.stopAgent()
	n.restart()
	return "second", program
}

// runtimeClassFile is a manifest of a RuntimeClass.
func runtimeClassFile(name, handler, more string) string {
	return "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: " + name + "}\nhandler: " + handler + "\n" + more
}

// TestRuntimeClasses has Pods of files begin with their class, by its handler and with its overhead, and be left alone when the class
// is another one or gone.
func TestRuntimeClasses(t *testing.T) {
	t.Parallel()
	n := launch(t)
	handler, second := n.secondHandler()
	const limit = "    resources: {limits: {memory: 32Mi, cpu: 100m}}\n"
	n.apply("heavy.yaml", simple("heavy", forever, "  runtimeClassName: heavy")+limit)
	n.heldFor("heavy", "RuntimeClass", `pod rejected: RuntimeClass "heavy" not found`)
	n.apply("class.yaml", runtimeClassFile("heavy", handler, "overhead: {podFixed: {memory: 16Mi, cpu: 50m}}\nscheduling: {nodeSelector: {kubernetes.io/os: linux}, tolerations: [{key: a, operator: Exists}]}\n"))
	heavy := n.awaitReady("heavy")
	if got := n.podLimit(heavy); got != "50331648" {
		t.Errorf("the limit of its cgroup is %s", got)
	}
	if got := n.handler(heavy); !strings.Contains(got, second) {
		t.Errorf("it runs with the options %q, want %s", got, second)
	}
	if q := heavy.Spec.Overhead.Memory().String(); q != "16Mi" || heavy.Spec.NodeSelector["kubernetes.io/os"] != "linux" || len(heavy.Spec.Tolerations) != 1 {
		t.Errorf("it is told to have an overhead of %s, %v and %v", q, heavy.Spec.NodeSelector, heavy.Spec.Tolerations)
	}
	n.apply("heavy.yaml", simple("heavy", forever, "  runtimeClassName: heavy")+strings.Replace(limit, "100m", "200m", 1))
	n.limited(n.pid(heavy, "app"), 0, 200, 32)
	n.limited(n.pid(heavy, "app"), 1, 250, 48)
	n.apply("heavy.yaml", simple("heavy", forever, "  runtimeClassName: heavy")+limit)
	n.limited(n.pid(heavy, "app"), 1, 150, 48)
	n.apply("class.yaml", runtimeClassFile("heavy", "unheard-of", "scheduling: {nodeSelector: {disk: ssd}}\n"))
	n.apply("another.yaml", simple("another", forever, "  runtimeClassName: heavy"))
	n.heldFor("another", "NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector; its labels are ")
	n.apply("class.yaml", runtimeClassFile("heavy", "unheard-of", ""))
	n.await("another", "says what it lacks", func(p *v1.Pod) bool {
		return p.Status.Phase == v1.PodPending && strings.Contains(p.Status.Message, `runtime handler "unheard-of" is not known`)
	})
	n.apply("heavy.yaml", simple("heavy", forever, "  priority: 0", "  runtimeClassName: heavy")+limit+"---\n"+simple("third", forever, "  overhead: {cpu: 1}"))
	n.heldFor("third", "RuntimeClass", "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
	n.remove("class.yaml")
	n.kill()
	n.restart()
	n.apply("heavy.yaml", strings.Replace(simple("heavy", forever, "  runtimeClassName: heavy")+limit, "{name: heavy}", "{name: heavy, labels: {v: a}}", 1))
	after := n.await("heavy", "has its label", func(p *v1.Pod) bool { return isReady(p) && p.Labels["v"] == "a" })
	if after.UID != heavy.UID || containerStatus(after, "app").RestartCount != 0 || after.Spec.Overhead.Memory().String() != "16Mi" {
		t.Errorf("it is %s, was restarted %d times and has an overhead of %v", after.UID, containerStatus(after, "app").RestartCount, after.Spec.Overhead)
	}
	if out, err := exec.Command("kill", "-9", fmt.Sprint(n.pid(after, "app"))).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	again := n.await("heavy", "is restarted", func(p *v1.Pod) bool { return isReady(p) && containerStatus(p, "app").RestartCount == 1 })
	if got := n.handler(again); !strings.Contains(got, second) {
		t.Errorf("without its class it is restarted with the options %q, want %s", got, second)
	}
	n.apply("heavy.yaml", simple("heavy", "echo another; "+forever, "  runtimeClassName: heavy")+limit)
	n.eventually("the edit is told to be mended", func() error {
		m, err := n.client().Manifests(t.Context())
		if err != nil {
			return err
		}
		for _, r := range m.Refused {
			if r.Name == "heavy" && r.Kept && r.Reason == `pod rejected: RuntimeClass "heavy" not found` && strings.HasSuffix(r.File, "heavy.yaml") && r.Line == 3 {
				return nil
			}
		}
		return fmt.Errorf("it is not: %+v", m.Refused)
	})
	if now := n.awaitReady("heavy"); now.UID != heavy.UID {
		t.Error("the last good version was ended")
	}
}

// TestRuntimeClassesOfAnAPI does what Kubernetes' node conformance asks of RuntimeClasses, and of Pods that name them.
func TestRuntimeClassesOfAnAPI(t *testing.T) {
	t.Parallel()
	n := launch(t)
	handler, _ := n.secondHandler()
	k := n.kubectl()
	client, ctx := k.clientset(), t.Context()
	classes := client.NodeV1().RuntimeClasses()
	groups, err := client.Discovery().ServerResourcesForGroupVersion("node.k8s.io/v1")
	if err != nil || len(groups.APIResources) != 1 || groups.APIResources[0].Name != "runtimeclasses" || groups.APIResources[0].Namespaced {
		t.Errorf("discovery says %+v (%v)", groups, err)
	}
	if _, err := classes.Create(ctx, &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "wrong"}, Handler: "In Valid"}, metav1.CreateOptions{}); !errors.IsInvalid(err) || !strings.HasPrefix(err.Error(), `RuntimeClass.node.k8s.io "wrong" is invalid: handler: Invalid value: "In Valid": `) {
		t.Errorf("a class with a wrong handler: %v", err)
	}
	made := map[string]*nodev1.RuntimeClass{}
	for _, name := range []string{"plain", "heavy", "broken"} {
		class := &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"of": "test"}}, Handler: handler}
		switch name {
		case "heavy":
			class.Overhead = &nodev1.Overhead{PodFixed: v1.ResourceList{v1.ResourceCPU: resource.MustParse("10m"), v1.ResourceMemory: resource.MustParse("1Mi")}}
		case "broken":
			class.Handler = "nonexistent-handler"
		}
		if made[name], err = classes.Create(ctx, class, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	pod := func(name, class string) *v1.Pod {
		p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1.PodSpec{
			RestartPolicy: v1.RestartPolicyNever, AutomountServiceAccountToken: ptr.To(false),
			Containers: []v1.Container{{Name: "app", Image: image, Command: []string{"true"}}},
		}}
		p.Spec.RuntimeClassName = &class
		return p
	}
	pods := client.CoreV1().Pods("default")
	_, err = pods.Create(ctx, pod("none", "nonexistent"), metav1.CreateOptions{})
	if want := `pods "none" is forbidden: pod rejected: RuntimeClass "nonexistent" not found`; !errors.IsForbidden(err) || err.Error() != want {
		t.Errorf("a Pod of a class that there is not: %v, want %s", err, want)
	}
	for _, class := range []string{"plain", "heavy", "broken"} {
		if _, err := pods.Create(ctx, pod(class, class), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	n.awaitPhase("plain", v1.PodSucceeded)
	n.awaitPhase("heavy", v1.PodSucceeded)
	heavy, err := pods.Get(ctx, "heavy", metav1.GetOptions{})
	if err != nil || heavy.Spec.Overhead[v1.ResourceCPU] != resource.MustParse("10m") || heavy.Spec.Overhead[v1.ResourceMemory] != resource.MustParse("1Mi") {
		t.Errorf("its overhead is %+v (%v)", heavy.Spec.Overhead, err)
	}
	n.eventually("an event tells of the handler that there is not", func() error {
		events, err := client.CoreV1().Events("default").List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=broken,reason=FailedCreatePodSandBox"})
		if err != nil {
			return err
		}
		for _, e := range events.Items {
			if strings.Contains(e.Message, "nonexistent-handler") {
				return nil
			}
		}
		return fmt.Errorf("there are %d events", len(events.Items))
	})
	if broken, err := pods.Get(ctx, "broken", metav1.GetOptions{}); err != nil || broken.Status.Phase != v1.PodPending {
		t.Errorf("it is %s (%v)", broken.Status.Phase, err)
	}
	k.all(
		row{"get runtimeclasses", "^NAME +HANDLER +AGE\n^heavy +" + handler + " +[0-9]+s"},
		row{"describe runtimeclass heavy", "^Name: +heavy\n^Handler: +" + handler + "\nCpu: +10m"},
		row{"patch runtimeclass plain --type=merge -p {\"handler\":\"runc\"}", `error: The RuntimeClass "plain" is invalid: handler: Invalid value: "runc": field is immutable`},
		row{"label runtimeclass plain patched=true", "runtimeclass.node.k8s.io/plain labeled"},
	)
	watched, err := classes.Watch(ctx, metav1.ListOptions{ResourceVersion: made["broken"].ResourceVersion, LabelSelector: "of=test"})
	if err != nil {
		t.Fatal(err)
	}
	defer watched.Stop()
	if _, err := classes.Patch(ctx, "plain", types.MergePatchType, []byte(`{"metadata":{"annotations":{"patched":"true"}}}`), metav1.PatchOptions{}); err != nil {
		t.Error(err)
	}
	plain, err := classes.Get(ctx, "plain", metav1.GetOptions{})
	if err != nil || plain.Annotations["patched"] != "true" {
		t.Errorf("it was patched to %+v (%v)", plain, err)
	}
	plain.Annotations["updated"] = "true"
	if _, err := classes.Update(ctx, plain, metav1.UpdateOptions{}); err != nil {
		t.Error(err)
	}
	if err := classes.Delete(ctx, "heavy", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	_, err = pods.Create(ctx, pod("late", "heavy"), metav1.CreateOptions{})
	if want := `pods "late" is forbidden: pod rejected: RuntimeClass "heavy" not found`; !errors.IsForbidden(err) || err.Error() != want {
		t.Errorf("a Pod of a class that was deleted: %v, want %s", err, want)
	}
	if err := classes.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "of=test"}); err != nil {
		t.Error(err)
	}
	if left, err := classes.List(ctx, metav1.ListOptions{LabelSelector: "of=test"}); err != nil || len(left.Items) != 0 {
		t.Errorf("%d are left (%v)", len(left.Items), err)
	}
	for deleted := 0; deleted < 3; {
		if e := <-watched.ResultChan(); e.Type == watch.Deleted {
			deleted++
		}
	}
	if err := pods.DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: ptr.To(int64(0))}, metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
}
