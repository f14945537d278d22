package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/manifests"
)

// instance is what is remembered of one instance of a Pod: everything that must survive the agent and cannot be seen. It
// stands in <root-dir>/pods/<uid>/pod.json, written before what it says is needed. Only the Pod's worker touches it.
type instance struct {
	Version    int                  `json:"version"`
	Pod        *v1.Pod              `json:"pod"`                // as run, UID allotted; may be replaced by another one, never changed: actions read it
	Wanted     *manifests.Resources `json:"wanted,omitempty"`   // in place of those of Pod, where these are others
	Resizing   *resizing            `json:"resizing,omitempty"` // what runs has not got all of the resources of Pod yet
	Asked      *v1.Pod              `json:"asked,omitempty"`    // as in its Wish
	Handler    string               `json:"handler,omitempty"`  // likewise
	Revision   string               `json:"revision"`
	Source     string               `json:"source,omitempty"`
	Ruling     Ruling               `json:"ruling,omitzero"`
	Ending     *plan.Ending         `json:"ending,omitempty"`
	Restarting bool                 `json:"restarting,omitempty"`   // all containers are being ended, to be done over
	TornDown   bool                 `json:"tornDown,omitempty"`     // nothing of it runs, and its status is final
	Users      node.Users           `json:"users,omitzero"`         // of its user namespace, from its first sandbox until nothing is left of it
	Level      string               `json:"seLinuxLevel,omitempty"` // where it has labels, likewise
	Sandbox    sandboxRecord        `json:"sandbox"`
	Containers map[string]*record   `json:"containers"`
	Given      string               `json:"given,omitempty"`      // a digest of the objects it was given, for those that are recreated with them
	OOMKills   uint64               `json:"oomKills,omitempty"`   // in the Pod's cgroup, when one was last told of
	Conditions []v1.PodCondition    `json:"conditions,omitempty"` // that others have set
	Status     v1.PodStatus         `json:"status"`               // as last reported: conditions keep their times, phases their end

	rebuilt bool // its record was lost: the Pod's spec is not known yet
	shed    bool // it has ended, and nothing of it is in the runtime any more
	file    string
	written []byte
}

// asked is the Pod as it was written.
func (i *instance) asked() *v1.Pod {
	if i.Asked != nil {
		return i.Asked
	}
	return i.desired()
}

// recordVersion is that of the records this program writes. It reads no later one.
const recordVersion = 1

// sandboxRecord is what is remembered of the Pod's sandbox.
type sandboxRecord struct {
	Attempt  int      `json:"attempt"`  // of the latest one, -1 before the first
	Made     bool     `json:"made"`     // something of it may be there
	Ready    bool     `json:"ready"`    // it was made in full, but for the network
	Attached bool     `json:"attached"` // its network is there
	IPs      []string `json:"ips,omitempty"`
}

// record is what is remembered of the latest instance of a container.
type record struct {
	Attempt     int                          `json:"attempt"`
	Sandbox     int                          `json:"sandbox"`
	CreatedAt   time.Time                    `json:"createdAt"`
	StartedAt   time.Time                    `json:"startedAt"`
	Launched    bool                         `json:"launched"`         // its start was begun: something of it may be there
	Unmade      bool                         `json:"unmade,omitempty"` // what is there of it was never started and goes: it has not run, whatever the runtime says
	Cleaned     bool                         `json:"cleaned"`          // it has ended and its task is gone
	Backoff     time.Duration                `json:"backoff"`
	Stop        *plan.Stop                   `json:"stop,omitempty"`
	Signalled   bool                         `json:"signalled,omitempty"`   // the signal of Stop was sent
	PostStarted bool                         `json:"postStarted,omitempty"` // its postStart hook has succeeded
	HookFailed  string                       `json:"hookFailed,omitempty"`  // why that has failed
	PreStop     *plan.Stop                   `json:"preStop,omitempty"`     // its preStop hook was begun
	PreStopDone bool                         `json:"preStopDone,omitempty"` // and has ended
	Started     bool                         `json:"started"`
	Ready       bool                         `json:"ready"`
	Asked       string                       `json:"asked,omitempty"` // the image as the Pod named it then
	Image       string                       `json:"image,omitempty"`
	ImageID     string                       `json:"imageID,omitempty"`
	StopSignal  string                       `json:"stopSignal,omitempty"`
	User        *v1.ContainerUser            `json:"user,omitempty"`
	Given       *v1.ResourceRequirements     `json:"given,omitempty"`     // what this instance was given last; replaced, never changed: it is published
	GivenPod    *v1.ResourceRequirements     `json:"givenPod,omitempty"`  // and its Pod
	Uncleaned   bool                         `json:"uncleaned,omitempty"` // the instance before this one still has its task
	OOMKills    uint64                       `json:"oomKills,omitempty"`  // of this instance, that were told of
	Redo        bool                         `json:"redo,omitempty"`      // it is to run again as if it never had
	Exit        *v1.ContainerStateTerminated `json:"exit,omitempty"`      // replaced, never changed: it is published
	Last        *v1.ContainerStateTerminated `json:"last,omitempty"`

	created bool // this instance is made, and not started yet
	tried   bool // its start was tried: it may have run
	told    bool // people were told that its restart waits
}

// newInstance begins an instance of a Pod that has its UID.
func newInstance(podsDir string, pod *v1.Pod, revision string) *instance {
	inst := &instance{
		Version: recordVersion, Pod: pod, Revision: revision, Sandbox: sandboxRecord{Attempt: -1}, Containers: map[string]*record{},
		file: recordFile(podsDir, string(pod.UID)),
	}
	inst.complete()
	return inst
}

func recordFile(podsDir, uid string) string { return filepath.Join(podsDir, uid, node.RecordFile) }

// plain says whether all names that become part of a path name one entry of a folder, and which one does not.
func (i *instance) plain() (name string, plain bool) {
	names := []string{i.Pod.Namespace, i.Pod.Name, string(i.Pod.UID)}
	for _, c := range plan.Containers(i.Pod) {
		names = append(names, c.Name)
	}
	for _, v := range i.Pod.Spec.Volumes {
		names = append(names, v.Name)
	}
	names = slices.AppendSeq(names, maps.Keys(i.Containers))
	for _, name := range names {
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
			return name, false
		}
	}
	return "", true
}

// complete gives every container of the Pod a record.
func (i *instance) complete() {
	for _, c := range plan.Containers(i.Pod) {
		if i.Containers[c.Name] == nil {
			i.Containers[c.Name] = &record{}
		}
	}
}

// attempts are the latest of each container.
func (i *instance) attempts() map[string]int {
	out := map[string]int{}
	for name, rec := range i.Containers {
		out[name] = rec.Attempt
	}
	return out
}

// target is a container of the instance, or its sandbox where there is none of this name.
func (i *instance) target(name string) node.Target {
	t := node.Target{Pod: i.Pod, Room: i.Pod, Handler: i.Handler, Revision: i.Revision, Sandbox: i.Sandbox.Attempt, IPs: i.Sandbox.IPs, Users: i.Users, Level: i.Level}
	if name == "" && i.Resizing != nil { // what is left of containers that are made anew has what they had
		t.Room = i.Resizing.Most.In(i.Pod)
	}
	for _, c := range plan.Containers(i.Pod) {
		if c.Name == name {
			rec := i.Containers[name]
			t.Container, t.Attempt, t.StopSignal, t.Leftover, t.Uncleaned = c, rec.Attempt, rec.StopSignal, rec.Unmade, rec.Uncleaned
			if c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
				t.StopSignal = string(*c.Lifecycle.StopSignal)
			}
		}
	}
	for _, c := range i.Pod.Spec.EphemeralContainers {
		if c.Name == name && c.TargetContainerName != "" {
			t.Beside = i.target(c.TargetContainerName).ID()
		}
	}
	return t
}

// ids are those of all that the instance may have in the runtime.
func (i *instance) ids() []string {
	ids := []string{i.target("").SandboxID()}
	for _, c := range plan.Containers(i.Pod) {
		ids = append(ids, i.target(c.Name).ID())
	}
	return ids
}

// save writes the instance where that changes anything. It survives a crash of the process, and of the host, at any
// instant: then the file holds this state or the one before.
func (i *instance) save() error {
	encoded, err := json.Marshal(i)
	if err != nil {
		return fmt.Errorf("encode instance: %w", err)
	}
	if bytes.Equal(encoded, i.written) {
		return nil
	}
	if err := node.WriteDurably(i.file, encoded); err != nil {
		return err
	}
	i.written = encoded
	return nil
}

// setAside is the end of the name of a record that could not be read.
const setAside = ".unreadable"

// unreadable is the record of an instance of which nothing is known but the UID that names its folder, and why.
type unreadable struct {
	uid string
	err error
}

// loadInstances reads what earlier agents have left. A record that cannot be read is set aside, where there is one, and
// answered as such.
func loadInstances(podsDir string) (whole []*instance, broken []unreadable, err error) {
	entries, err := os.ReadDir(podsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read instances: %w", err)
	}
	for _, e := range entries {
		inst, err := loadInstance(recordFile(podsDir, e.Name()), e.Name())
		if err != nil {
			file := recordFile(podsDir, e.Name())
			if asideErr := os.Rename(file, file+setAside); asideErr != nil && !errors.Is(asideErr, fs.ErrNotExist) {
				err = errors.Join(err, asideErr)
			}
			broken = append(broken, unreadable{e.Name(), err})
			continue
		}
		whole = append(whole, inst)
	}
	return whole, broken, nil
}

func loadInstance(file, uid string) (*instance, error) {
	inst := &instance{file: file}
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	if err := json.Unmarshal(content, inst); err != nil {
		return nil, fmt.Errorf("read record %s: %w", file, err)
	}
	switch {
	case inst.Version > recordVersion:
		return nil, fmt.Errorf("read record %s: it is of version %d, and this program knows %d", file, inst.Version, recordVersion)
	case inst.Pod == nil || string(inst.Pod.UID) != uid:
		return nil, fmt.Errorf("read record %s: it is not that of pod %s", file, uid)
	}
	if name, plain := inst.plain(); !plain {
		return nil, fmt.Errorf("read record %s: %q cannot name a file", file, name)
	}
	inst.written = content
	maps.DeleteFunc(inst.Containers, func(_ string, rec *record) bool { return rec == nil })
	for _, c := range plan.Containers(inst.Pod) {
		if rec := inst.Containers[c.Name]; rec != nil && rec.Launched && rec.Given == nil && inst.Resizing == nil {
			rec.Given = c.Resources.DeepCopy() // of an agent that could not resize, nor give anything to a Pod
		}
	}
	if inst.Containers == nil {
		inst.Containers = map[string]*record{}
	}
	inst.complete()
	return inst, nil
}
