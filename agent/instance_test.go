package agent

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/manifests"
)

// recorded is an instance that was not written yet.
func recorded(dir string) *instance {
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "u"}}
	pod.Spec.InitContainers = []v1.Container{{Name: "init"}}
	pod.Spec.Containers = []v1.Container{{Name: "app"}}
	return newInstance(dir, pod, "r1")
}

func TestInstanceIsReadAsWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Now().Truncate(time.Second)
	inst := recorded(dir)
	inst.Ending = &plan.Ending{Since: now, Reason: "test"}
	inst.Sandbox = sandboxRecord{Attempt: 2, Made: true, Ready: true, IPs: []string{"10.88.0.2"}}
	inst.Users = node.Users{First: 3 * node.UsersUnit, Count: node.UsersUnit}
	wanted := manifests.ResourcesOf(inst.Pod)
	inst.Wanted, inst.Resizing = &wanted, &resizing{Generation: 2, Most: wanted, Error: "no room"}
	inst.Containers["app"] = &record{
		Attempt: 3, Sandbox: 2, CreatedAt: now, StartedAt: now, Launched: true, Backoff: 40 * time.Second, Signalled: true, Started: true, Ready: true,
		Stop: &plan.Stop{Why: plan.LivenessFailed, Since: now, Grace: 7 * time.Second}, StopSignal: "SIGQUIT",
		User: &v1.ContainerUser{Linux: &v1.LinuxContainerUser{UID: 7, SupplementalGroups: []int64{8}}}, Given: &v1.ResourceRequirements{},
		Exit: &v1.ContainerStateTerminated{ExitCode: 3}, Last: &v1.ContainerStateTerminated{ExitCode: 4},
	}
	if err := inst.save(); err != nil {
		t.Fatal(err)
	}
	whole, broken, err := loadInstances(dir)
	if err != nil || len(whole) != 1 || len(broken) > 0 {
		t.Fatalf("%d whole, broken %v: %v", len(whole), broken, err)
	}
	if diff := cmp.Diff(inst, whole[0], cmp.AllowUnexported(instance{}, record{}), cmpopts.EquateApproxTime(0)); diff != "" {
		t.Errorf("(-written +read):\n%s", diff)
	}
	if stat, err := os.Stat(inst.file); err != nil || stat.Mode().Perm() != 0o600 {
		t.Errorf("mode %v: %v", stat.Mode(), err)
	}
}

func TestInstanceIsWrittenOnlyWhenItChanged(t *testing.T) {
	t.Parallel()
	inst := recorded(t.TempDir())
	if err := inst.save(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(inst.file); err != nil {
		t.Fatal(err)
	}
	if err := inst.save(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(inst.file); err == nil {
		t.Error("it was written again though nothing has changed")
	}
	inst.Containers["app"].Attempt++
	if err := inst.save(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(inst.file); err != nil {
		t.Errorf("it was not written though it has changed: %v", err)
	}
}

func TestBrokenInstances(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if whole, broken, err := loadInstances(filepath.Join(dir, "none")); err != nil || whole != nil || broken != nil {
		t.Errorf("of a folder that is not there: %v, %v, %v", whole, broken, err)
	}
	good := recorded(dir)
	if err := good.save(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(good.file)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty": "", "half": string(content[:len(content)/2]), "no-pod": "{}", "of-another": string(content), "no-json": "pod: {}",
		"newer": `{"version": 2, "pod": {"metadata": {"uid": "newer"}}}`,
	} {
		if err := node.WriteDurably(recordFile(dir, name), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "no-file"), 0o750); err != nil {
		t.Fatal(err)
	}
	whole, broken, err := loadInstances(dir)
	if err != nil || len(whole) != 1 || whole[0].Pod.UID != "u" {
		t.Errorf("whole: %v, %v", whole, err)
	}
	var uids []string
	for _, b := range broken {
		uids = append(uids, b.uid)
		if _, err := os.Stat(recordFile(dir, b.uid) + setAside); err != nil && b.uid != "no-file" {
			t.Errorf("%s is not set aside: %v", b.uid, err)
		}
	}
	slices.Sort(uids)
	if diff := cmp.Diff([]string{"empty", "half", "newer", "no-file", "no-json", "no-pod", "of-another"}, uids); diff != "" {
		t.Errorf("broken (-want +got):\n%s", diff)
	}
}

func TestInstanceThatLacksARecordGetsOne(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	inst := recorded(dir)
	delete(inst.Containers, "app")
	if err := inst.save(); err != nil {
		t.Fatal(err)
	}
	whole, _, err := loadInstances(dir)
	if err != nil || len(whole) != 1 || whole[0].Containers["app"] == nil || whole[0].Containers["init"] == nil {
		t.Errorf("%+v: %v", whole, err)
	}
}

func TestWhichSignalStops(t *testing.T) {
	t.Parallel()
	asked := v1.SIGUSR1
	for sentence, r := range map[string]struct {
		image string
		pod   *v1.Signal
		want  string
	}{
		"neither says: it is SIGTERM":  {"", nil, ""},
		"the image's":                  {"SIGQUIT", nil, "SIGQUIT"},
		"the Pod's":                    {"", &asked, "SIGUSR1"},
		"the Pod's before the image's": {"SIGQUIT", &asked, "SIGUSR1"},
	} {
		inst := recorded(t.TempDir())
		inst.Containers["app"] = &record{StopSignal: r.image}
		inst.Pod.Spec.Containers[0].Lifecycle = &v1.Lifecycle{StopSignal: r.pod}
		if got := inst.target("app").StopSignal; got != r.want {
			t.Errorf("%s: got %q, want %q", sentence, got, r.want)
		}
	}
}
