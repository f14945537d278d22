// Package manifests turns a directory of YAML into the whole set of Pods that are wanted, and of the objects they refer to.
//
// It reads, judges and remembers manifests:
//
//	bytes ─▶ split ─▶ strict ─▶ fields ─▶ revision ─▶ validate ─▶ pick ─▶ Set
//	         into      types     what       of what      defaults     one file
//	         documents and typos podkeeper  is written   and rules of a name,
//	                             can do                  Kubernetes   last good kept
//
// Decode is pure and is all that `podkeeper validate` needs; Watch adds the directory: it delivers a Set once the
// directory was read and again whenever the Set is another one. A file that is half-written, broken or unreadable never
// takes its Pods away: the version that was last good stays, and a Refusal says what has to be mended.
//
// This is the only package that imports k8s.io/kubernetes. It must not know what becomes of a Pod: containers, volumes,
// the network and whether a Pod fits on the node are other rooms' business.
package manifests

import (
	"log/slog"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Config says where manifests are and how to follow them.
type Config struct {
	Dir     string // the manifest directory; it need not exist yet, may vanish and come back, may be a symlink
	KeepDir string // podkeeper's own folder for the last good content of each manifest file; "" keeps it in memory only
	// SecretDir is a folder of podkeeper's own for the same of files with Secrets in them: what is kept of those in KeepDir
	// lacks the Secrets. It is used only where it is in memory (tmpfs); else an agent that starts knows no last good Secret.
	SecretDir string
	Rescan    time.Duration // how often the directory is looked at without any event, a safety net; 0 means 20 s
	Log       *slog.Logger  // for trouble with watching and keeping, which no manifest is to blame for; nil is silent

	// Trust says who, other than root, could change what is read at a path. A file that it has an error for is refused with that;
	// nil trusts every file. It has none for what is not there.
	Trust func(path string) error
}

// Set is everything that is wanted on this node at one moment. Receivers must not change what it points to.
type Set struct {
	Pods    []Pod     // accepted, or the last good version of what is refused now; sorted by namespace/name, each name once
	Objects []Object  // likewise; sorted by kind, namespace, name
	Refused []Refusal // what a user has to mend; sorted by file and line
	Err     error     // the directory cannot be read; Pods are then those last known
}

// Pod is one accepted Pod.
type Pod struct {
	*v1.Pod // with Kubernetes' defaults, valid by its rules; the UID is empty unless the manifest gives one

	// Revision is a hash of what the user wrote: the metadata that is not dropped, and the spec, as they were
	// decoded and before defaults were filled in. It says nothing of comments, the order of keys, the place in a file,
	// or which of several spellings of one value was used (cpu: 1, cpu: "1", cpu: 1000m). A later build, whose
	// libraries know other fields and defaults, finds the same Revision in the same file. A default that a user begins
	// to write out, or ceases to, makes another one: whether that changes the Pod is seen by comparing Pods (see
	// Normalise).
	Revision string
	File     string // the file it stands in
	Line     int    // the line of its metadata.name, 1-based
}

// Key names the Pod.
func (p Pod) Key() Key {
	return PodKey(types.NamespacedName{Namespace: p.Namespace, Name: p.Name})
}

// Refusal is one fault of a manifest, in words for the person who wrote it.
type Refusal struct {
	File         string
	Line, Column int    // 1-based, 0 where unknown
	Field        string // such as spec.containers[0].imagePullPolicy; "" where it is about more than a field
	Reason       string // what is wrong and what would be right
	Of           Key    // zero where not even a name can be read
	Kept         bool   // the last good version is still in the Set
}

// Error is "file:line: field: reason", without the parts that are unknown.
func (r Refusal) Error() string {
	at := r.File
	if r.Line > 0 {
		at += ":" + strconv.Itoa(r.Line)
	}
	var parts []string
	for _, part := range []string{at, r.Field, r.Reason} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ": ")
}

// keptBy tells whether a last good version is among those that are kept.
func (r Refusal) keptBy(kept keys) bool {
	if r.Of.Name == "" {
		return len(kept) > 0
	}
	for key := range kept {
		if r.Of.Covers(key) {
			return true
		}
	}
	return false
}

// Decode reads one manifest file: everything in it that is fit, and every fault in it. It touches nothing but its
// arguments, and the same data gives the same answer on any machine. file is used for telling where things stand.
func Decode(file string, data []byte) Set { return decodeSet(file, data, false) }

// DecodeKept is Decode of a file that podkeeper keeps, not a person: there a Node may be, too.
func DecodeKept(file string, data []byte) Set { return decodeSet(file, data, true) }

func decodeSet(file string, data []byte, kept bool) Set {
	return pick([]*entry{{path: file, presence: present, docs: decode(file, data, kept)}}, nil).set()
}

// set is what was picked, with the Pods apart.
func (p picked) set() Set {
	s := Set{Refused: p.refused}
	for _, o := range p.objects {
		if pod, ok := o.Object.(*v1.Pod); ok {
			s.Pods = append(s.Pods, Pod{Pod: pod, Revision: o.Revision, File: o.File, Line: o.Line})
		} else {
			s.Objects = append(s.Objects, o)
		}
	}
	return s
}
