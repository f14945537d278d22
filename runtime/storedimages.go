package runtime

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"

	"github.com/podkeeper/podkeeper/runtime/pullrecords"
)

// ErrImageUsed is why an image is not removed: somebody has asked for it meanwhile.
var ErrImageUsed = errors.New("image was asked for meanwhile")

// Stored is one image that is there, by all its names, and what has to be known to be rid of it.
type Stored struct {
	ID       string // digest of its configuration
	Names    []string
	Size     int64 // bytes of its content
	LastUsed time.Time
	InUse    bool // a container, or an image volume, stands on it, or on another one of the same layers
	Wanted   bool // it has one of the names that were asked for
	Pulled   bool // by us, so that it may be had again
	Pinned   bool // by whoever shares the namespace

	records []images.Image
}

const (
	labelLastUsed = "podkeeper/last-used"      // its writing is what counts, by the time of the record
	labelPinned   = "io.cri-containerd.pinned" // containerd's CRI plugin
	pinned        = "pinned"                   // what it says
	noteUsesEvery = time.Hour                  // how much of a use is lost with the agent
	snapshotters  = "io.containerd.snapshotter.v1"
	contentStores = "io.containerd.content.v1"
)

// imageUses are when images were asked for, or seen in use, by their names, since the agent was started.
type imageUses struct {
	mu   sync.Mutex // held while an image's names are removed, so that who asks comes before or after
	last map[string]time.Time
}

func (u *imageUses) note(at time.Time, names ...string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.last == nil {
		u.last = map[string]time.Time{}
	}
	for _, name := range names {
		u.last[name] = at
	}
}

func (u *imageUses) of(name string) time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.last[name]
}

// forgetAllBut forgets the uses of images that are not there, but those of a moment ago, which are being pulled.
func (u *imageUses) forgetAllBut(names map[string]bool, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	maps.DeleteFunc(u.last, func(name string, at time.Time) bool { return !names[name] && now.Sub(at) > noteUsesEvery })
}

// StoredImages lists the images that are there, in no order, but those that are not whole. wanted are names as Pods have them.
// It is a scan.
func (r *Runtime) StoredImages(ctx context.Context, wanted []string) ([]Stored, error) {
	r.awaitImports(ctx) // what is not imported yet may look as if it was only pulled
	now := time.Now()
	records, err := r.client.ImageService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	bases, err := r.bases(ctx)
	if err != nil {
		return nil, err
	}
	asked, there := fullNames(wanted), map[string]bool{}
	found := map[string]Stored{}
	for _, record := range records {
		there[record.Name] = true
		image, err := r.content(ctx, record)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		s := found[image.ID]
		s.ID, s.Size = image.ID, max(s.Size, image.Size)
		s.Names, s.records = append(s.Names, record.Name), append(s.records, record)
		s.InUse = s.InUse || bases[image.chainID]
		s.Wanted = s.Wanted || asked[record.Name]
		s.Pulled = s.Pulled || r.records.Pulled(pullrecords.Image{Name: record.Name, ID: image.ID})
		s.Pinned = s.Pinned || record.Labels[labelPinned] == pinned
		s.LastUsed = latest(s.LastUsed, record.UpdatedAt, r.uses.of(record.Name))
		if s.InUse {
			s.LastUsed = latest(s.LastUsed, now)
		}
		found[image.ID] = s
	}
	r.uses.forgetAllBut(there, now)
	return slices.Collect(maps.Values(found)), nil
}

// bases are the layers that something stands on which is no image: a container's writable layer, an image volume.
func (r *Runtime) bases(ctx context.Context) (map[string]bool, error) {
	all := map[string]bool{}
	err := r.client.SnapshotService(r.snapshotter).Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		if info.Kind != snapshots.KindCommitted {
			all[info.Parent] = true
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	return all, nil
}

// fullNames are names as EnsureImage makes them of what Pods have.
func fullNames(asked []string) map[string]bool {
	all := map[string]bool{}
	for _, name := range asked {
		if named, err := reference.ParseDockerRef(name); err == nil {
			all[named.String()] = true
		}
	}
	return all
}

func latest(times ...time.Time) time.Time { return slices.MaxFunc(times, time.Time.Compare) }

// NoteUses has containerd remember when images were used, where what it remembers is old: a use outlives the agent, to an hour.
func (r *Runtime) NoteUses(ctx context.Context, stored []Stored) error {
	var errs []error
	for _, s := range stored {
		if s.InUse {
			r.uses.note(s.LastUsed, s.Names...)
		}
		for _, record := range s.records {
			if s.LastUsed.Sub(record.UpdatedAt) < noteUsesEvery {
				continue
			}
			record.Labels = maps.Clone(record.Labels)
			if record.Labels == nil {
				record.Labels = map[string]string{}
			}
			record.Labels[labelLastUsed] = s.LastUsed.UTC().Format(time.RFC3339)
			_, err := r.client.ImageService().Update(ctx, record, "labels."+labelLastUsed)
			if err != nil && !errdefs.IsNotFound(err) {
				errs = append(errs, fmt.Errorf("note use of image %s: %w", record.Name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// RemoveImage removes an image of StoredImages with all its names and its pull record, and what of its content nothing else needs.
// ErrImageUsed where somebody has asked for it since then, which is when it was decided that it goes.
func (r *Runtime) RemoveImage(ctx context.Context, image Stored, since time.Time) error {
	if err := r.removeNames(ctx, image, since); err != nil {
		return err
	}
	err := r.records.Forget(image.ID, func() (bool, error) {
		left, err := r.StoredImages(ctx, nil)
		return !slices.ContainsFunc(left, func(s Stored) bool { return s.ID == image.ID }), err
	})
	if err != nil {
		err = fmt.Errorf("forget who may use image: %w", err)
	}
	return errors.Join(err, r.collectGarbage(ctx))
}

// removeNames removes the names of an image, but those that are another image's by now.
func (r *Runtime) removeNames(ctx context.Context, image Stored, since time.Time) error {
	r.uses.mu.Lock()
	defer r.uses.mu.Unlock()
	for _, name := range image.Names {
		if r.uses.last[name].After(since) {
			return fmt.Errorf("remove image %s: %w", name, ErrImageUsed)
		}
	}
	store := r.client.ImageService()
	for _, record := range image.records {
		now, err := store.Get(ctx, record.Name)
		if err == nil && now.Target.Digest == record.Target.Digest { // DeleteTarget is not known to every containerd
			err = store.Delete(ctx, record.Name, images.DeleteTarget(&record.Target))
		}
		if err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("remove image %s: %w", record.Name, err)
		}
	}
	return nil
}

// collectGarbage has containerd remove what nothing needs, and waits for that. A lease that ends makes it do so.
func (r *Runtime) collectGarbage(ctx context.Context) error {
	lease, err := r.client.LeasesService().Create(ctx, leases.WithRandomID(), leases.WithExpiration(time.Hour))
	if err == nil {
		err = r.client.LeasesService().Delete(ctx, lease, leases.SynchronousDelete)
	}
	if err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	return nil
}

// ImageDirs are the folders in which containerd keeps content and layers. They may be on two file systems.
func (r *Runtime) ImageDirs(ctx context.Context) ([]string, error) {
	return r.pluginDirs(ctx, "type=="+snapshotters+",id=="+r.snapshotter, "type=="+contentStores)
}

// pluginDirs are the folders in which some of containerd's plugins keep what they have, at least one.
func (r *Runtime) pluginDirs(ctx context.Context, filters ...string) ([]string, error) {
	answer, err := r.client.IntrospectionService().Plugins(ctx, filters...)
	if err != nil {
		return nil, fmt.Errorf("find where images are: %w", err)
	}
	var dirs []string
	for _, plugin := range answer.Plugins {
		if root := plugin.Exports["root"]; root != "" {
			dirs = append(dirs, root)
		}
	}
	if len(dirs) == 0 {
		return nil, errors.New("find where images are: containerd does not say")
	}
	return dirs, nil
}
