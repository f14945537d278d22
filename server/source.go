// Package server is how people and programs look at the node: a small HTTP API on a Unix socket, the client of that
// API, and its answers printed for people as kubectl prints them.
//
//	Source ─▶ Handler ─▶ Listen/Serve ══ podkeeper.sock ══ Client ─▶ PrintPods, PrintNode, PrintRefused
//
// It tells, and lets some things be asked for: that what waits in a Pod is tried at once, that its end comes sooner, that
// all Pods end, an ephemeral container, objects to be made and removed, a token, a command in a container, its streams, and
// a port of a Pod. It changes nothing itself, and knows nothing of how the agent comes by what it tells: everything it has is
// a [Source] and a metrics gatherer.
package server

import (
	"context"
	"encoding/json"
	"io"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	authentication "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// Source is what there is to tell and to ask for. Its methods are called from many goroutines at once; what they return is
// the caller's, who may sort it but not change the objects in it.
type Source interface {
	// Pods are the node's Pods with their status; a refused one that has a name is among them, Pending with the reason.
	Pods() []v1.Pod
	// Manifests is what was read from the manifest directory.
	Manifests() Manifests
	// Events are the latest events, oldest first.
	Events() []v1.Event
	// Healthy is nil, or what is wrong with the agent.
	Healthy() error
	// Stats tells what Pods and the node use, which may take a second reading, and so a moment.
	Stats(ctx context.Context, onlyCPUAndMemory bool) (*Summary, error)
	// Node is the node, as it is now.
	Node(ctx context.Context) *v1.Node
	// Resources tells what Pods and the node use, as series.
	Resources(ctx context.Context) prometheus.Gatherer
	// Containers tells what containers, Pods and the node use in more detail, as series.
	Containers(ctx context.Context) prometheus.Gatherer
	// Drain has all Pods end and none begin, or be back. The error is why that cannot be remembered.
	Drain(on bool) error
	// Drained says whether that is so, and how many Pods still run.
	Drained() (on bool, left int)
	// Retry has everything that waits in a Pod tried at once, and does not wait for what comes of it. Its error says that
	// there is no such Pod, in full.
	Retry(pod types.NamespacedName) error
	// Shorten has a Pod that ends be over within a time from now, not later than it would be. Its error is [ErrNoPod] or
	// [ErrConflict], in full.
	Shorten(pod types.NamespacedName, grace time.Duration) error
	// AddEphemeral adds an ephemeral container, a v1.EphemeralContainer in JSON, to a Pod that runs, and answers the Pod. Its
	// error is [ErrNoPod], [ErrConflict] or [ErrInvalid], in full, or why the agent could not.
	AddEphemeral(pod types.NamespacedName, container []byte) (*v1.Pod, error)
	// Follow tells of every object there is, then by a bookmark of the revision at which there were these, then of each change,
	// until ctx ends or tell fails. The error says why it ended.
	Follow(ctx context.Context, tell func(Change) error) error
	// PutObject makes an object, in JSON, be what there is by a name, and answers it in JSON. Its error is [ErrNoObject],
	// [ErrConflict], [ErrChanged], [ErrForbidden] or [ErrInvalid], in full, or why it could not be written.
	PutObject(id ObjectID, body []byte, want Condition) ([]byte, error)
	// PutStatus makes the status of an object be what somebody else than the agent may say of it: conditions of a Pod. It
	// answers the object, likewise.
	PutStatus(id ObjectID, body []byte, want Condition) ([]byte, error)
	// DeleteObject removes one, and answers it as it was, likewise. A Pod ends within grace, where that is given, or within
	// its own; one that ends already may only be hastened. One that stands in a manifest begins anew, which the warning says.
	DeleteObject(id ObjectID, want Condition, grace *time.Duration) (object []byte, warning string, err error)
	// Token signs a token of a ServiceAccount, as an authentication.k8s.io/v1 TokenRequest in JSON asks, and answers that with it.
	// Its error is [ErrNoObject], [ErrNoPod], [ErrInvalid], [ErrBadRequest], or [ErrChanged] where what is named by its UID is another
	// one, in full.
	Token(account types.NamespacedName, request []byte) (*authentication.TokenRequest, error)
	// Log answers what writes the log of a container, as the query of a v1.PodLogOptions asks. Its error is [ErrNoPod],
	// [ErrInvalid] or [ErrBadRequest], in full.
	Log(pod types.NamespacedName, container string, query url.Values) (func(context.Context, io.Writer) error, error)
	// Exec answers what runs a command in a container until its end or that of ctx, and answers its exit code. Its error is
	// [ErrNoPod], or why the container cannot run one, in full.
	Exec(pod types.NamespacedName, container string, command []string) (func(context.Context, Streams) (int, error), error)
	// Attach answers whether a container has a terminal, and what connects streams with its main process until that ends, Stdin
	// or ctx, whose cause is context.Canceled only where the agent ends. Its error is [ErrNoPod], or why there is none, in full.
	Attach(pod types.NamespacedName, container string) (tty bool, attach func(context.Context, Streams) error, err error)
	// PortForward answers what connects a stream with a TCP port of a Pod's loopback until one of them or ctx ends. Its error is
	// [ErrNoPod], or why there is none, in full.
	PortForward(pod types.NamespacedName) (func(ctx context.Context, port int32, stream io.ReadWriter) error, error)
}

// Summary is the answer to GET /stats/summary: the kubelet's, which does not say over what time its rates are.
type Summary struct {
	stats.Summary
	Window metav1.Duration `json:"window"` // of every usageNanoCores, up to its time
}

// ObjectID names an object as paths of Kubernetes' API do.
type ObjectID struct {
	Resource  string // such as pods
	Namespace string // empty for those that are in none
	Name      string
}

// Condition is what must hold of an object for a change of it to be made.
type Condition struct {
	New      bool   // there is none
	Revision uint64 // there is one, and no change of it since; 0 is whatever there is, or none
	DryRun   bool   // never: everything is checked, and what would come of it is answered
}

// Change is one line of the answer to GET /objects.
type Change struct {
	Type     ChangeType      `json:"type"`
	Resource string          `json:"resource,omitempty"` // such as pods
	Object   json.RawMessage `json:"object,omitempty"`   // with its metadata.resourceVersion; of one that is gone, as it was last
	Revision uint64          `json:"revision"`
}

// ChangeType is what a Change is.
type ChangeType string

// The types of changes. A bookmark says that all there is was told of.
const (
	Added    ChangeType = "ADDED"
	Modified ChangeType = "MODIFIED"
	Deleted  ChangeType = "DELETED"
	Bookmark ChangeType = "BOOKMARK"
)

// Manifests is the answer to GET /manifests: what the manifest directory holds and what in it has to be mended.
type Manifests struct {
	Directory string `json:"directory"`
	// Error is why the directory could not be read; Pods and Refused are then those of the last time it could.
	Error   string           `json:"error,omitempty"`
	Pods    []ManifestPod    `json:"pods"`
	Objects []ManifestObject `json:"objects"`
	Refused []Refused        `json:"refused"`
}

// ManifestPod is a Pod that a manifest asks for.
type ManifestPod struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	File      string `json:"file"`
	Revision  string `json:"revision"`
}

// ManifestObject is an object that Pods may refer to, such as a ConfigMap.
type ManifestObject struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	File      string `json:"file"`
}

// Refused is a fault of a manifest: where it is and what would be right. Fields that are not known are empty; lines and
// columns count from 1.
type Refused struct {
	File      string `json:"file"`
	Line      int    `json:"line,omitempty"`
	Column    int    `json:"column,omitempty"`
	Field     string `json:"field,omitempty"`
	Reason    string `json:"reason"`
	Kind      string `json:"kind,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	// Kept says that the last good version of the object stays in force.
	Kept bool `json:"kept"`
}
