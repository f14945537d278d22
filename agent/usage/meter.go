// Package usage tells what Pods and the node use, when somebody asks: the kubelet's summary, and its series of resources.
//
//	asked ─▶ an earlier reading, a reading now ─▶ summary
//
// How busy CPUs are takes two readings of what they have done. A kubelet reads all the time; here nobody may pay while nobody
// asks, so a reading is kept for the next who does: whoever asks regularly is told of the time since he asked last. Who asks
// first, or after a long time, or when a container has started since, waits for a second reading.
//
// It must not know how figures are read, nor who asks.
package usage

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/agent/node"
)

const (
	// pause is the time between two readings for somebody who waits.
	pause = 500 * time.Millisecond
	// fresh is how long a reading is answered again. No window is shorter than this, or than pause.
	fresh = time.Second
	// stale is how old a reading may be to begin a window. Somebody who asks is told of now, not of a mean of minutes.
	stale = 30 * time.Second
)

// Host is where figures are read: a node.Node.
type Host interface {
	NodeUsage() (node.Usage, error)
	Usage(pod *v1.Pod, id string) (node.Usage, error)
	Detail(pod *v1.Pod, id string) (node.Detail, error)
	Limits(pod *v1.Pod, container string) node.Limits
	Capacity() v1.ResourceList
	Traffic(pod *v1.Pod) ([]node.Interface, error)
	RootDisk() (node.Disk, error)
	LogDisk(pod *v1.Pod, container string) (node.Disk, error)
	Booted() (time.Time, error)
}

// Meter reads figures, at most once in a while. Its methods are safe for concurrent use.
type Meter struct {
	name string // of the node
	host Host
	pods func() []v1.Pod
	log  *slog.Logger

	turn    chan struct{} // held by the one who reads
	last    window
	scraped window // of one reading only
}

// New makes a Meter of a node and of those of its Pods that run, as their status says.
func New(name string, host Host, pods func() []v1.Pod, log *slog.Logger) *Meter {
	return &Meter{name: name, host: host, pods: pods, log: log, turn: make(chan struct{}, 1)}
}

// window is two readings.
type window struct {
	pods       []running // of the later one
	began, now reading
}

// reading is what is used: by UIDs of Pods and ids of containers, which are all different, and by nodeKey.
type reading map[string]node.Usage

const nodeKey = ""

func (r reading) age() time.Duration { return time.Since(r[nodeKey].At) }

// running is a Pod and its containers that run.
type running struct {
	pod        *v1.Pod
	containers []container
}

type container struct {
	name, id, image string
	startedAt       time.Time
}

// measure answers the window that ends now, or ended a moment ago.
func (m *Meter) measure(ctx context.Context) (window, error) {
	if err := m.awaitTurn(ctx); err != nil {
		return window{}, err
	}
	defer m.endTurn()
	if m.last.now != nil && m.last.now.age() < fresh {
		return m.last, nil
	}
	pods := runningOf(m.pods())
	began, err := m.last.now, error(nil)
	if began == nil || began.age() > stale || !began.has(pods) {
		if began, err = m.read(pods); err != nil {
			return window{}, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return window{}, ctx.Err()
		}
	}
	now, err := m.read(pods)
	if err != nil {
		return window{}, err
	}
	m.last = window{pods, began, now}
	return m.last, nil
}

// awaitTurn waits until nobody else reads.
func (m *Meter) awaitTurn(ctx context.Context) error {
	select {
	case m.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *Meter) endTurn() { <-m.turn }

// has says whether all of these were read.
func (r reading) has(pods []running) bool {
	for _, p := range pods {
		for _, c := range p.containers {
			if _, ok := r[c.id]; !ok {
				return false
			}
		}
	}
	return true
}

// read reads everything. What is gone meanwhile is left out, and so is a Pod that cannot be read.
func (m *Meter) read(pods []running) (reading, error) {
	whole, err := m.host.NodeUsage()
	if err != nil {
		return nil, err
	}
	r := reading{nodeKey: whole}
	for _, p := range pods {
		m.readOne(r, string(p.pod.UID), p.pod, "")
		for _, c := range p.containers {
			m.readOne(r, c.id, p.pod, c.id)
		}
	}
	return r, nil
}

func (m *Meter) readOne(r reading, key string, pod *v1.Pod, id string) {
	u, err := m.host.Usage(pod, id)
	switch {
	case err == nil:
		r[key] = u
	case !errors.Is(err, fs.ErrNotExist):
		m.log.Warn("usage cannot be read", "pod", pod.Namespace+"/"+pod.Name, "error", err)
	}
}

// runningOf are the Pods of which a container runs.
func runningOf(pods []v1.Pod) (all []running) {
	for i := range pods {
		p := running{pod: &pods[i]}
		for _, list := range [][]v1.ContainerStatus{p.pod.Status.InitContainerStatuses, p.pod.Status.ContainerStatuses, p.pod.Status.EphemeralContainerStatuses} {
			for _, s := range list {
				_, id, ok := strings.Cut(s.ContainerID, "://")
				if s.State.Running != nil && ok {
					p.containers = append(p.containers, container{s.Name, id, s.Image, s.State.Running.StartedAt.Time})
				}
			}
		}
		if len(p.containers) > 0 {
			all = append(all, p)
		}
	}
	return all
}
