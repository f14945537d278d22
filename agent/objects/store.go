// Package objects keeps the objects that are made through an API: each in a file of its own, which a person may read and
// edit, and all of them numbered by one revision that never goes back.
//
//	<dir>/<resource>_<namespace>_<name>.yaml    an object, with its UID and whatever else the API has put into it
//	<dir>/revision                              what no revision before this start has reached
//
// A change is on the disk before it is told of. It must not know who asks, nor what becomes of the objects: they are a
// manifests.Set, as those of the manifest directory are.
package objects

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"github.com/podkeeper/podkeeper/manifests"
)

// What is wrong with a request. The errors say so in full.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("already exists")
	ErrChanged  = errors.New("the object has been modified; please apply your changes to the latest version and try again")
	ErrInvalid  = errors.New("invalid")
)

// ID names an object as paths of Kubernetes' API do.
type ID struct {
	Resource string // such as pods
	types.NamespacedName
}

// String is resource/namespace/name, as far as there is a namespace.
func (id ID) String() string {
	if id.Namespace == "" {
		return id.Resource + "/" + id.Name
	}
	return id.Resource + "/" + id.Namespace + "/" + id.Name
}

// Compare orders IDs by resource, namespace and name.
func (id ID) Compare(other ID) int {
	return cmp.Or(cmp.Compare(id.Resource, other.Resource), cmp.Compare(id.Namespace, other.Namespace), cmp.Compare(id.Name, other.Name))
}

func (id ID) file() string {
	if id.Namespace == "" {
		return id.Resource + "_" + id.Name + ".yaml"
	}
	return id.Resource + "_" + id.Namespace + "_" + id.Name + ".yaml"
}

// Condition is what must hold of an object for a change of it to be made.
type Condition struct {
	New      bool   // there is none
	Revision uint64 // there is one, and no change of it since; 0 is whatever there is, or none
	DryRun   bool   // never: everything is checked, and what would come of it is answered
}

// Object is one object at one moment.
type Object struct {
	ID
	Revision uint64         // of its last change
	Content  map[string]any // as JSON, with metadata.resourceVersion; never changed
}

// Config says where objects are.
type Config struct {
	Dir   string
	Write func(file string, content []byte) error // replaces a file in one step that is durable, and makes its folder
	Now   time.Time
	// Complete fills in what an object has that its writer did not give, and takes out what is not the writer's to say. It is
	// given the object as it was, nil for a new one, which it does not change.
	Complete func(id ID, fields, was map[string]any)
	Log      *slog.Logger
}

// Store is the objects. Its methods are safe for concurrent use.
type Store struct {
	cfg Config

	mu       sync.Mutex
	revision uint64
	objects  map[ID]*stored
	unread   error // why the files could not be read at the last look
}

type stored struct {
	Object
	content []byte        // of its file
	stamp   stamp         // of its file when that had this content; may be nothing
	read    manifests.Set // what podkeeper makes of it: one Pod, or one object, or what is wrong with it
}

// leap is how many revisions are reserved at a start: more than one start can use.
const leap = 1 << 32

const revisionFile = "revision"

// Open reads the objects that there are. Revisions begin at the time in microseconds, or at what the start before had
// reserved, whichever is more. What cannot be read is told of by Set.
func Open(cfg Config) *Store {
	s := &Store{cfg: cfg, objects: map[ID]*stored{}, revision: uint64(cfg.Now.UnixMicro())}
	if err := s.reserve(); err != nil {
		cfg.Log.Warn("should the clock be set back, clients may take old objects for new ones", "error", err)
	}
	s.Look()
	return s
}

// reserve begins revisions, and has the next start begin behind those of this one.
func (s *Store) reserve() error {
	mark := filepath.Join(s.cfg.Dir, revisionFile)
	content, err := os.ReadFile(mark)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read revision: %w", err)
	}
	if reserved, err := strconv.ParseUint(strings.TrimSpace(string(content)), 10, 64); err == nil { // else it was never whole
		s.revision = max(s.revision, reserved)
	}
	if err := s.cfg.Write(mark, []byte(strconv.FormatUint(s.revision+leap, 10)+"\n")); err != nil {
		return fmt.Errorf("reserve revisions: %w", err)
	}
	return nil
}

// files are those whose names are objects'.
func (s *Store) files() ([]string, error) {
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list objects: %w", err)
	}
	var files []string
	for _, e := range entries {
		if _, ok := idOf(e.Name()); ok {
			files = append(files, filepath.Join(s.cfg.Dir, e.Name()))
		}
	}
	return files, nil
}

// read takes what stands in a file that somebody else has written.
func (s *Store) read(id ID, content []byte) {
	var fields map[string]any
	if asJSON, err := yaml.YAMLToJSON(content); err != nil || utiljson.Unmarshal(asJSON, &fields) != nil {
		fields = nil // what is wrong with it is told by Decode
	}
	s.take(id, fields, content)
}

// idOf reads the name of a file. Names of roles may have underscores in them, those of namespaces and resources not.
func idOf(base string) (ID, bool) {
	name, ok := strings.CutSuffix(base, ".yaml")
	resource, name, split := strings.Cut(name, "_")
	id := ID{Resource: resource}
	kind, clusterWide := manifests.KindOf(resource)
	if id.Name = name; !clusterWide {
		id.Namespace, id.Name, split = strings.Cut(name, "_")
	}
	if !ok || kind == "" || !split || id.Name == "" {
		return ID{}, false
	}
	return id, true
}

// take makes an object what stands in its file now. Of one that cannot be used, podkeeper goes on with what was good last.
func (s *Store) take(id ID, fields map[string]any, content []byte) Object {
	s.revision++
	file := filepath.Join(s.cfg.Dir, id.file())
	o := &stored{content: content, read: decode(file, content, fields)}
	if err := judge(id, o.read); err != nil {
		kind, _ := manifests.KindOf(id.Resource)
		r := manifests.Refusal{File: file, Reason: err.Error(), Of: manifests.Key{Kind: kind, NamespacedName: id.NamespacedName}}
		if len(o.read.Refused) > 0 {
			r.Line, r.Column, r.Field, r.Reason = o.read.Refused[0].Line, o.read.Refused[0].Column, o.read.Refused[0].Field, o.read.Refused[0].Reason
		}
		o.read = manifests.Set{}
		if was := s.objects[id]; was != nil {
			o.read.Pods, o.read.Objects = was.read.Pods, was.read.Objects
			r.Kept = len(was.read.Pods)+len(was.read.Objects) > 0
		}
		o.read.Refused = []manifests.Refusal{r}
	}
	o.Object = Object{ID: id, Revision: s.revision, Content: withRevision(fields, s.revision)}
	s.objects[id] = o
	return o.Object
}

// decode is what podkeeper makes of an object's file. A Pod has the generation that whoever writes it gives it, which no manifest
// has.
func decode(file string, content []byte, fields map[string]any) manifests.Set {
	read := manifests.DecodeKept(file, content)
	for _, p := range read.Pods {
		p.Generation, _ = metadataOf(fields)["generation"].(int64)
	}
	return read
}

// withRevision is an object with a metadata.resourceVersion.
func withRevision(fields map[string]any, revision uint64) map[string]any {
	out, metadata := maps.Clone(fields), metadataOf(fields)
	if out == nil {
		out = map[string]any{}
	}
	metadata = maps.Clone(metadata)
	metadata["resourceVersion"] = strconv.FormatUint(revision, 10)
	out["metadata"] = metadata
	return out
}

func metadataOf(fields map[string]any) map[string]any {
	if metadata, ok := fields["metadata"].(map[string]any); ok {
		return metadata
	}
	return map[string]any{}
}

// Get answers an object. The error is ErrNotFound.
func (s *Store) Get(id ID) (Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.objects[id]; o != nil {
		return o.Object, nil
	}
	return Object{}, fmt.Errorf("%s: %w", id, ErrNotFound)
}

// List answers all objects, in no order.
func (s *Store) List() []Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Object, 0, len(s.objects))
	for _, o := range s.objects {
		all = append(all, o.Object)
	}
	return all
}

// Revision is that of the last change.
func (s *Store) Revision() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.revision
}

// Next is a revision for a change of what is not kept here.
func (s *Store) Next() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revision++
	return s.revision
}

// NextOf is a revision for what is told of an object that was kept here at a revision; 0 is one that is not kept here. It is not ok
// where there is a newer version by now: that would seem to be older than what is told.
func (s *Store) NextOf(id ID, kept uint64) (next uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.objects[id]; kept != 0 && (o == nil || o.Revision != kept) {
		return 0, false
	}
	s.revision++
	return s.revision, true
}

// IDOf is the ID of an object by its kind.
func IDOf(key manifests.Key) ID { return ID{manifests.ResourceOf(key.Kind), key.NamespacedName} }

// check says whether a change may be made of what there is.
func (s *Store) check(id ID, want Condition) error {
	switch o := s.objects[id]; {
	case o != nil && want.New && Ending(o.Content):
		return fmt.Errorf("object is being deleted: %s %q %w", id.Resource, id.Name, ErrExists)
	case o != nil && want.New:
		return fmt.Errorf("%s: %w", id, ErrExists)
	case o == nil && want.Revision != 0:
		return fmt.Errorf("%s: %w", id, ErrNotFound)
	case o != nil && want.Revision != 0 && want.Revision < o.Revision:
		return fmt.Errorf("%s: %w", id, ErrChanged)
	}
	return nil
}

// Put makes an object, in JSON, be what there is by this name, and answers it. It gets a UID and a creation time where it has
// none. What is there already keeps its revision. An edit must be one that Kubernetes' API allows; one that takes the last finalizer off an object that is being deleted
// removes it. The error is ErrInvalid, ErrExists, ErrNotFound or ErrChanged, or why it could not be written; then all is as before.
func (s *Store) Put(id ID, body []byte, want Condition) (Object, error) {
	var fields map[string]any
	err := utiljson.Unmarshal(body, &fields)
	if err == nil && fields == nil {
		err = errors.New("null")
	}
	if err != nil {
		return Object{}, fmt.Errorf("%w: %s: not an object in JSON: %w", ErrInvalid, id, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(id, want); err != nil {
		return Object{}, err
	}
	s.complete(id, fields)
	content, err := s.checked(id, fields)
	switch {
	case err != nil:
		return Object{}, err
	case want.DryRun:
		return s.would(id, fields), nil
	case Ending(fields) && !held(fields):
		return s.remove(id, fields)
	}
	if was := s.objects[id]; was != nil && bytes.Equal(was.content, content) {
		return was.Object, nil
	}
	return s.write(id, fields, content)
}

// checked is the content of a file for an object, if it is a right one, and a right edit of the one before.
func (s *Store) checked(id ID, fields map[string]any) ([]byte, error) {
	content, err := yaml.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, id, err)
	}
	read := decode(filepath.Join(s.cfg.Dir, id.file()), content, fields)
	if err := judge(id, read); err != nil {
		return nil, err
	}
	was := s.objects[id]
	if was == nil || only(was.read) == nil {
		return content, nil
	}
	now, before := only(read), only(was.read)
	faults := edited(now, before)
	if Ending(was.Content) {
		faults = append(faults, validation.ValidateNoNewFinalizers(now.GetFinalizers(), before.GetFinalizers(), field.NewPath("metadata", "finalizers"))...)
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, id, joined(faults))
	}
	return content, nil
}

// edited says what is wrong with an edit. That of a Pod may be one of what it asks for instead, which whoever sends it has seen to
// be allowed to.
func edited(now, before metav1.Object) field.ErrorList {
	faults := manifests.CheckEdit(now, before)
	if pod, ok := now.(*v1.Pod); ok && len(faults) > 0 && len(manifests.CheckResize(pod, before.(*v1.Pod))) == 0 {
		return nil
	}
	return faults
}

// write makes an object be there, on the disk first.
func (s *Store) write(id ID, fields map[string]any, content []byte) (Object, error) {
	if err := s.cfg.Write(filepath.Join(s.cfg.Dir, id.file()), content); err != nil {
		return Object{}, fmt.Errorf("write %s: %w", id, err)
	}
	if err := s.sync(); err != nil {
		return Object{}, fmt.Errorf("write %s: %w", id, err)
	}
	return s.take(id, fields, content), nil
}

// would is what an object would be, were it written: at the revision of the one before, if there is one.
func (s *Store) would(id ID, fields map[string]any) Object {
	if was := s.objects[id]; was != nil {
		return Object{ID: id, Revision: was.Revision, Content: withRevision(fields, was.Revision)}
	}
	return Object{ID: id, Content: fields}
}

// Ending says whether an object is being deleted.
func Ending(fields map[string]any) bool { return metadataOf(fields)["deletionTimestamp"] != nil }

// held says whether an object that is being deleted stays until somebody is done with it: of a Namespace that is whoever
// empties it.
func held(fields map[string]any) bool {
	finalizers, _ := metadataOf(fields)["finalizers"].([]any)
	spec, _ := fields["spec"].(map[string]any)
	own, _ := spec["finalizers"].([]any)
	return len(finalizers)+len(own) > 0
}

func joined(faults field.ErrorList) error {
	errs := make([]error, len(faults))
	for i, f := range faults {
		errs[i] = f
	}
	return errors.Join(errs...)
}

// complete fills in what an object has from its beginning on, and leaves out what no file has. Whether it is being deleted is
// not for who writes it to say.
func (s *Store) complete(id ID, fields map[string]any) {
	metadata := metadataOf(fields)
	delete(metadata, "resourceVersion")
	was := map[string]any{"uid": string(uuid.NewUUID()), "creationTimestamp": time.Now().UTC().Format(time.RFC3339)}
	var before map[string]any
	if o := s.objects[id]; o != nil {
		before, was = o.Content, metadataOf(o.Content)
	}
	for _, name := range []string{"uid", "creationTimestamp"} {
		if metadata[name] == nil {
			metadata[name] = was[name]
		}
	}
	for _, name := range []string{"deletionTimestamp", "deletionGracePeriodSeconds"} {
		if delete(metadata, name); was[name] != nil {
			metadata[name] = was[name]
		}
	}
	fields["metadata"] = metadata
	if s.cfg.Complete != nil {
		s.cfg.Complete(id, fields, before)
	}
}

// only is the one object that a file has, nil where it cannot be used.
func only(read manifests.Set) metav1.Object {
	switch {
	case len(read.Pods) > 0:
		return read.Pods[0].Pod
	case len(read.Objects) > 0:
		return read.Objects[0].Object
	}
	return nil
}

// judge says what is wrong with a file that is to hold one object.
func judge(id ID, read manifests.Set) error {
	var errs []error
	for _, r := range read.Refused {
		errs = append(errs, errors.New(strings.TrimPrefix(r.Field+": "+r.Reason, ": ")))
	}
	if len(errs) > 0 {
		return fmt.Errorf("%w: %s: %w", ErrInvalid, id, errors.Join(errs...))
	}
	kind, _ := manifests.KindOf(id.Resource)
	want := manifests.Key{Kind: kind, NamespacedName: id.NamespacedName}
	var got []manifests.Key
	for _, p := range read.Pods {
		got = append(got, p.Key())
	}
	for _, o := range read.Objects {
		got = append(got, o.Key())
	}
	if len(got) != 1 || got[0] != want {
		return fmt.Errorf("%w: %s: it is no %s, but %v", ErrInvalid, id, want, got)
	}
	return nil
}

// Delete removes an object, and answers it as it was, with the revision of its removal. One with finalizers is only marked: it
// goes with the last of them. The error is ErrNotFound or ErrChanged, or why the disk could not be changed; then all is as
// before.
func (s *Store) Delete(id ID, want Condition) (Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[id]
	if o == nil {
		return Object{}, fmt.Errorf("%s: %w", id, ErrNotFound)
	}
	if err := s.check(id, want); err != nil {
		return Object{}, err
	}
	switch {
	case held(o.Content) && Ending(o.Content):
		return o.Object, nil
	case held(o.Content):
		return s.mark(id, want)
	case want.DryRun:
		return o.Object, nil
	}
	return s.remove(id, o.Content)
}

// mark notes that an object is being deleted.
func (s *Store) mark(id ID, want Condition) (Object, error) {
	was := s.objects[id].Content
	fields := runtime.DeepCopyJSON(was)
	metadata := metadataOf(fields)
	delete(metadata, "resourceVersion")
	metadata["deletionTimestamp"], metadata["deletionGracePeriodSeconds"] = time.Now().UTC().Format(time.RFC3339), int64(0)
	if s.cfg.Complete != nil {
		s.cfg.Complete(id, fields, was)
	}
	if want.DryRun {
		return s.would(id, fields), nil
	}
	content, err := yaml.Marshal(fields)
	if err != nil {
		return Object{}, fmt.Errorf("encode %s: %w", id, err)
	}
	return s.write(id, fields, content)
}

// Amend changes an object that is being deleted, where there is one: for whoever knows how it has ended. The error is why that
// could not be written.
func (s *Store) Amend(id ID, amend func(fields map[string]any)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[id]
	if o == nil || !Ending(o.Content) {
		return nil
	}
	fields := runtime.DeepCopyJSON(o.Content)
	delete(metadataOf(fields), "resourceVersion")
	amend(fields)
	content, err := yaml.Marshal(fields)
	if err != nil {
		return fmt.Errorf("encode %s: %w", id, err)
	}
	_, err = s.write(id, fields, content)
	return err
}

// remove has an object be gone, from the disk first, and answers what it was last.
func (s *Store) remove(id ID, last map[string]any) (Object, error) {
	if err := os.Remove(filepath.Join(s.cfg.Dir, id.file())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Object{}, fmt.Errorf("remove %s: %w", id, err)
	}
	if err := s.sync(); err != nil {
		return Object{}, fmt.Errorf("remove %s: %w", id, err)
	}
	delete(s.objects, id)
	s.revision++
	return Object{ID: id, Revision: s.revision, Content: withRevision(last, s.revision)}, nil
}

// sync has the names of files be on the disk.
func (s *Store) sync() error {
	dir, err := os.Open(s.cfg.Dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// Look reads what others have edited, made or removed of the files, and says whether that was anything. Of what cannot be read
// nothing changes.
func (s *Store) Look() (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var files []string
	was := s.unread
	if files, s.unread = s.files(); s.unread != nil {
		return was == nil
	}
	there := map[ID]bool{}
	for _, file := range files {
		id, _ := idOf(filepath.Base(file))
		there[id] = true
		anew, err := s.lookAt(id, file)
		if err != nil {
			s.unread = fmt.Errorf("read object: %w", err)
		}
		changed = changed || anew
	}
	for id := range s.objects {
		if !there[id] {
			delete(s.objects, id)
			s.revision++
			changed = true
		}
	}
	return changed || (was == nil) != (s.unread == nil)
}

// lookAt reads a file, unless that is as it was, and says whether its content is another one.
func (s *Store) lookAt(id ID, file string) (changed bool, err error) {
	info, err := os.Stat(file)
	if err != nil {
		return false, err
	}
	o, now := s.objects[id], stampOf(info)
	if o != nil && o.stamp == now && now != (stamp{}) {
		return false, nil
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return false, err
	}
	if changed = o == nil || !bytes.Equal(o.content, content); changed {
		s.read(id, content)
	}
	s.objects[id].stamp = now
	return changed, nil
}

// Set is what the objects come to, as those of a manifest directory do.
func (s *Store) Set() manifests.Set {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := manifests.Set{Err: s.unread}
	for _, id := range slices.SortedFunc(maps.Keys(s.objects), ID.Compare) {
		read := s.objects[id].read
		if !Ending(s.objects[id].Content) { // else it has to end, though somebody holds its object
			all.Pods = append(all.Pods, read.Pods...)
		}
		all.Objects = append(all.Objects, read.Objects...)
		all.Refused = append(all.Refused, read.Refused...)
	}
	return all
}
