package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	godigest "github.com/opencontainers/go-digest"
	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/runtime"
)

// TestStoredImages removes an image of several, and looks at what containerd has of it, and of the others, before and after.
func TestStoredImages(t *testing.T) {
	t.Parallel()
	n := launch(t)
	ctx := t.Context()
	r := n.runtimeWith(runtime.Config{RecordsDir: n.path("out", "image_manager")})
	n.demo(r)
	pull := func(names ...string) (image runtime.Image) {
		t.Helper()
		for i := range names {
			names[i] = lab.registry + "/" + n.namespace + "/" + names[i]
		}
		pushUnlike(t, names...)
		for _, name := range names {
			p, err := r.EnsureImage(ctx, runtime.Request{Image: name, Policy: v1.PullIfNotPresent})
			if err != nil {
				t.Fatal(err)
			}
			image = p.Image
		}
		return image
	}
	idle, ran, mounted := pull("idle:v1", "idle:v2"), pull("ran:v1"), pull("mounted:v1")
	dir := n.path("out", "volume")
	key := runtime.VolumeKey("uid", "files")
	if err := errors.Join(r.PrepareLayer(ctx, runtime.ID("uid", "app", 0), ran, nil), r.MountImage(ctx, mounted, runtime.ImageVolume{Key: key, Dir: dir})); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(r.UnmountImage(context.Background(), key, dir), r.Delete(context.Background(), runtime.ID("uid", "app", 0))); err != nil {
			t.Error(err)
		}
	}()

	stored := func() map[string]runtime.Stored {
		t.Helper()
		all, err := r.StoredImages(ctx, []string{mounted.Name, "busybox"})
		if err != nil {
			t.Fatal(err)
		}
		byID := map[string]runtime.Stored{}
		for _, s := range all {
			byID[s.ID] = s
		}
		return byID
	}
	before := stored()
	for id, want := range map[string]runtime.Stored{
		idle.ID:    {Pulled: true, Names: make([]string, 2)},
		ran.ID:     {Pulled: true, InUse: true, Names: make([]string, 1)},
		mounted.ID: {Pulled: true, InUse: true, Wanted: true, Names: make([]string, 1)},
	} {
		got := before[id]
		if got.Pulled != want.Pulled || got.InUse != want.InUse || got.Wanted != want.Wanted || len(got.Names) != len(want.Names) || got.Size == 0 || time.Since(got.LastUsed) > time.Minute {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	if demo, there := before[n.demo(r).ID]; !there || demo.Pulled {
		t.Errorf("the imported image is %+v", demo)
	}

	records := func() int {
		files, err := filepath.Glob(n.path("out", "image_manager", "pulled", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(files)
	}
	decided := time.Now()
	had := records()
	if _, err := r.EnsureImage(ctx, runtime.Request{Image: idle.Name, Policy: v1.PullNever}); err != nil {
		t.Fatal(err)
	}
	if err := r.RemoveImage(ctx, before[idle.ID], decided); !errors.Is(err, runtime.ErrImageUsed) || len(stored()) != len(before) || records() != had {
		t.Errorf("an image that is asked for is removed: %v", err)
	}
	if err := r.RemoveImage(ctx, before[idle.ID], time.Now()); err != nil {
		t.Fatal(err)
	}
	if after := stored(); after[idle.ID].ID != "" || len(after) != len(before)-1 || records() != had-1 {
		t.Errorf("%d images and %d records are left of %d and %d", len(after), records(), len(before), had)
	}
	n.noContent(idle.ID)
	if err := r.RemoveImage(ctx, before[idle.ID], time.Now()); err != nil {
		t.Errorf("once more: %v", err)
	}
	if _, err := r.EnsureImage(ctx, runtime.Request{Image: idle.Name, Policy: v1.PullNever}); !errors.Is(err, runtime.ErrImageNeverPull) {
		t.Errorf("it is told to be there: %v", err)
	}
	for _, image := range []runtime.Image{idle, ran, mounted} { // pulled anew, or there as before
		if p, err := r.EnsureImage(ctx, runtime.Request{Image: image.Name, Policy: v1.PullIfNotPresent}); err != nil || p.Pulled != (image.ID == idle.ID) {
			t.Errorf("%s: pulled %v, %v", image.Name, p.Pulled, err)
		}
	}
}

// noContent fails the test where containerd has a blob.
func (n *node) noContent(digest string) {
	n.t.Helper()
	c, ctx, err := n.ctr()
	if err != nil {
		n.t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.ContentStore().Info(ctx, godigest.Digest(digest)); !errdefs.IsNotFound(err) {
		n.t.Errorf("containerd keeps %s: %v", digest, err)
	}
}

// TestUsesOfImagesAreRemembered has an agent after another one know when an image was used.
func TestUsesOfImagesAreRemembered(t *testing.T) {
	t.Parallel()
	n := launch(t)
	r := n.runtimeWith(runtime.Config{})
	image := n.other(r)
	find := func() runtime.Stored {
		t.Helper()
		all, err := n.runtimeWith(runtime.Config{}).StoredImages(t.Context(), nil) // each time another agent
		i := slices.IndexFunc(all, func(s runtime.Stored) bool { return s.ID == image.ID })
		if err != nil || i < 0 {
			t.Fatalf("%v: %+v", err, all)
		}
		return all[i]
	}
	was := find()
	for _, later := range []time.Duration{time.Minute, 2 * time.Hour} {
		is := was
		is.LastUsed = was.LastUsed.Add(later)
		if err := r.NoteUses(t.Context(), []runtime.Stored{is}); err != nil {
			t.Fatal(err)
		}
		if written := find().LastUsed.After(was.LastUsed); written != (later > time.Hour) {
			t.Errorf("a use %s later is written: %v", later, written)
		}
	}
	if p, err := r.EnsureImage(t.Context(), runtime.Request{Image: image.Name, Policy: v1.PullNever}); err != nil || p.Image.ID != image.ID {
		t.Errorf("afterwards it is not what it was: %+v, %v", p.Image, err)
	}
}

// TestImagesThatNobodyNeedsGo has an agent that wants nothing but room: of all disks more than one percent is in use.
func TestImagesThatNobodyNeedsGo(t *testing.T) {
	t.Parallel()
	n := launch(t, "imageGCHighThresholdPercent: 1", "imageGCLowThresholdPercent: 0", "imageMinimumGCAge: 1ms")
	ref := func(name string) string { return lab.registry + "/" + n.namespace + "/" + name }
	for _, name := range []string{"old", "kept", "new"} {
		pushUnlike(t, ref(name))
	}
	with := func(name string) string { return strings.Replace(simple(name, forever), image, ref(name), 1) }
	has := func(image string) bool {
		t.Helper()
		c, ctx, err := n.ctr()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, err = c.ImageService().Get(ctx, image)
		if err != nil && !errdefs.IsNotFound(err) {
			t.Fatal(err)
		}
		return err == nil
	}
	n.demo(n.runtime())
	n.apply("kept.yaml", with("kept"))
	n.apply("old.yaml", with("old"))
	n.awaitReady("old")
	n.awaitReady("kept")
	n.remove("old.yaml")
	n.awaitGone("old")
	n.apply("new.yaml", with("new"))
	n.awaitReady("new")
	n.eventually("the image of nobody is gone", func() error {
		if has(ref("old") + ":latest") {
			return errors.New("it is there")
		}
		return nil
	})
	for _, image := range []string{ref("kept") + ":latest", ref("new") + ":latest", image} {
		if !has(image) {
			t.Errorf("%s is gone", image)
		}
	}
	n.eventually("people are told what holds the disk", func() error {
		events, err := n.client().Events(context.Background())
		if err != nil {
			return err
		}
		for _, e := range events.Items {
			if e.Reason == "FreeDiskSpaceFailed" && e.InvolvedObject.Kind == "Node" && strings.Contains(e.Message, " in use by containers (") &&
				strings.Contains(e.Message, " imported, not pulled (") {
				return nil
			}
		}
		return fmt.Errorf("there are %d events", len(events.Items))
	})
	if files, _ := filepath.Glob(n.path("root", "image_manager", "pulled", "*")); len(files) != 2 {
		t.Errorf("there are records %q", files)
	}
}
