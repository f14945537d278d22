package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/agent/plan"
)

// instance is what is remembered of one instance of a Pod: everything that must survive the agent and cannot be seen. It
// stands in <root-dir>/pods/<uid>/pod.json, written before what it says is needed. Only the Pod's worker touches it.
type instance struct {
	Pod        *v1.Pod            `json:"pod"` // as run, UID allotted; never changed, so that actions may read it
	Revision   string             `json:"revision"`
	Ending     *plan.Ending       `json:"ending,omitempty"`
	Sandbox    sandboxRecord      `json:"sandbox"`
	Containers map[string]*record `json:"containers"`
	OOMKills   uint64             `json:"oomKills,omitempty"` // in the Pod's cgroup, when one was last told of
	Status     v1.PodStatus       `json:"status"`             // as last reported: conditions keep their times, phases their end

	file    string
	written []byte
}

// sandboxRecord is what is remembered of the Pod's sandbox.
type sandboxRecord struct {
	Attempt int      `json:"attempt"` // of the latest one, -1 before the first
	Made    bool     `json:"made"`    // something of it may be there
	Ready   bool     `json:"ready"`   // it was made in full
	IPs     []string `json:"ips,omitempty"`
}

// record is what is remembered of the latest instance of a container.
type record struct {
	Attempt    int                          `json:"attempt"`
	Sandbox    int                          `json:"sandbox"`
	CreatedAt  time.Time                    `json:"createdAt"`
	StartedAt  time.Time                    `json:"startedAt"`
	Launched   bool                         `json:"launched"` // its start was begun: something of it may be there
	Cleaned    bool                         `json:"cleaned"`  // it has ended and its task is gone
	Backoff    time.Duration                `json:"backoff"`
	Stop       *plan.Stop                   `json:"stop,omitempty"`
	Signalled  bool                         `json:"signalled,omitempty"` // the signal of Stop was sent
	Started    bool                         `json:"started"`
	Ready      bool                         `json:"ready"`
	Image      string                       `json:"image,omitempty"`
	ImageID    string                       `json:"imageID,omitempty"`
	StopSignal string                       `json:"stopSignal,omitempty"`
	Exit       *v1.ContainerStateTerminated `json:"exit,omitempty"`
	Last       *v1.ContainerStateTerminated `json:"last,omitempty"`

	leftover bool // an earlier start of this attempt was cut off: what is left of it goes first
	told     bool // people were told that its restart waits
}

const instanceFile = "pod.json"

// newInstance begins an instance of a Pod that has its UID.
func newInstance(podsDir string, pod *v1.Pod, revision string) *instance {
	inst := &instance{
		Pod: pod, Revision: revision, Sandbox: sandboxRecord{Attempt: -1}, Containers: map[string]*record{},
		file: filepath.Join(podsDir, string(pod.UID), instanceFile),
	}
	for _, c := range allContainers(pod) {
		inst.Containers[c.Name] = &record{}
	}
	return inst
}

// allContainers are a Pod's init containers and containers, in order.
func allContainers(pod *v1.Pod) []*v1.Container {
	var all []*v1.Container
	for i := range pod.Spec.InitContainers {
		all = append(all, &pod.Spec.InitContainers[i])
	}
	for i := range pod.Spec.Containers {
		all = append(all, &pod.Spec.Containers[i])
	}
	return all
}

// save writes the instance where that changes anything. It survives a crash of the process at any instant; a crash of the
// host may lose the latest state, with all that ran.
func (i *instance) save() error {
	encoded, err := json.Marshal(i)
	if err != nil {
		return fmt.Errorf("encode instance: %w", err)
	}
	if bytes.Equal(encoded, i.written) {
		return nil
	}
	if err := writeFile(i.file, encoded, 0o600); err != nil {
		return err
	}
	i.written = encoded
	return nil
}

// writeFile replaces a file in one step, and makes its folder.
func writeFile(file string, content []byte, mode fs.FileMode) error {
	tmp := file + ".tmp"
	err := os.WriteFile(tmp, content, mode)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(file), 0o750); err == nil {
			err = os.WriteFile(tmp, content, mode)
		}
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if err := os.Rename(tmp, file); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}

// loadInstances reads what earlier agents have left. A folder whose file cannot be read is answered as broken: nothing is
// known of it but the UID that is its name.
func loadInstances(podsDir string) (whole []*instance, broken []string, err error) {
	entries, err := os.ReadDir(podsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read instances: %w", err)
	}
	for _, e := range entries {
		inst := &instance{file: filepath.Join(podsDir, e.Name(), instanceFile)}
		inst.written, err = os.ReadFile(inst.file)
		if err == nil {
			err = json.Unmarshal(inst.written, inst)
		}
		if err != nil || inst.Pod == nil || string(inst.Pod.UID) != e.Name() {
			broken = append(broken, e.Name())
			continue
		}
		for _, c := range allContainers(inst.Pod) {
			if inst.Containers[c.Name] == nil {
				inst.Containers[c.Name] = &record{}
			}
		}
		whole = append(whole, inst)
	}
	return whole, broken, nil
}
