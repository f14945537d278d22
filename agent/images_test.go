package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/agent/reclaim"
	"github.com/podkeeper/podkeeper/manifests"
)

// shelf pretends to be where images are, on a disk of a hundred bytes.
type shelf struct {
	mu      sync.Mutex
	stored  []node.StoredImage
	others  uint64 // bytes that are no image's
	lists   int
	looks   int
	asked   []string // for which images stay
	noted   int
	used    string // an image that is asked for at the last moment
	broken  error
	removed []string
}

func (s *shelf) ImageDisk(context.Context) (string, node.Disk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	used := s.others
	for _, i := range s.stored {
		used += uint64(i.Size)
	}
	return "/images", node.Disk{Capacity: 100, Available: 100 - used}, s.broken
}

func (s *shelf) StoredImages(_ context.Context, wanted []string) ([]node.StoredImage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lists++
	s.asked = wanted
	return slices.Clone(s.stored), nil
}

func (s *shelf) NoteUses(_ context.Context, images []node.StoredImage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noted += len(images)
	return nil
}

func (s *shelf) RemoveImage(_ context.Context, image node.StoredImage, _ time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if image.ID == s.used {
		return fmt.Errorf("remove image: %w", node.ErrImageUsed)
	}
	s.removed = append(s.removed, image.ID)
	s.stored = slices.DeleteFunc(s.stored, func(i node.StoredImage) bool { return i.ID == image.ID })
	return nil
}

// attic is what is tested, and what became of it.
type attic struct {
	*images
	*shelf
	told  []string
	freed int
	known bool
}

// inAttic runs a test of images that have nobody: a, b, c, of 10 bytes each, which were used one after another.
func inAttic(t *testing.T, policy reclaim.Policy, test func(a *attic)) {
	synctest.Test(t, func(t *testing.T) {
		a := &attic{shelf: &shelf{}, known: true}
		for n, id := range []string{"a", "b", "c"} {
			a.stored = append(a.stored, node.StoredImage{ID: id, Size: 10, Pulled: true, LastUsed: time.Now().Add(time.Duration(n-30) * time.Minute)})
		}
		a.images = newImages(a.shelf, policy, slog.New(slog.DiscardHandler))
		a.wanted = func() ([]string, bool) {
			a.mu.Lock()
			defer a.mu.Unlock()
			return []string{"wanted"}, a.known
		}
		a.tell = func(reason, message string) { a.told = append(a.told, reason+": "+message) }
		a.images.freed = func() { a.freed++ }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); a.run(ctx) }()
		test(a)
		cancel()
		<-done
	})
}

// set changes what is pretended.
func (a *attic) set(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
}

// pass lets time pass, and says what was removed meanwhile.
func (a *attic) pass(d time.Duration) string {
	var before int
	a.set(func() { before = len(a.removed) })
	time.Sleep(d)
	synctest.Wait()
	return strings.Join(a.removed[before:], " ")
}

func (a *attic) count(t *testing.T, why string) int {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(a.counted)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if metric.GetLabel()[0].GetValue() == why {
				return int(metric.GetCounter().GetValue())
			}
		}
	}
	return 0
}

var usual = reclaim.Policy{High: 85, Low: 80, MinAge: 2 * time.Minute}

func TestImagesGoWhenRoomIsNeeded(t *testing.T) {
	inAttic(t, usual, func(a *attic) {
		if got := a.pass(20 * time.Minute); got != "" || a.lists != 4 {
			t.Errorf("with room it lists %d times and removes %q", a.lists, got)
		}
		a.set(func() { a.others = 65 })
		if got := a.pass(sweepEvery); got != "a b" || a.count(t, forSpace) != 2 {
			t.Errorf("over the high mark it removes %q, and counts %d", got, a.count(t, forSpace))
		}
		a.set(func() { a.others = 86 })
		if got := a.pass(sweepEvery); got != "c" || len(a.told) != 1 || !strings.HasPrefix(a.told[0], "FreeDiskSpaceFailed: Insufficient") ||
			!strings.Contains(a.told[0], "(86% of") || !strings.Contains(a.told[0], "/images") {
			t.Errorf("where that does not do it removes %q, and says %q", got, a.told)
		}
		if a.noted != 4*3+3+1 || !slices.Equal(a.asked, []string{"wanted"}) || a.freed != 0 {
			t.Errorf("%d uses are noted, %q are wanted, %d times pulls are told of room", a.noted, a.asked, a.freed)
		}
	})
}

func TestImagesThatStay(t *testing.T) {
	for sentence, change := range map[string]func(a *attic){
		"in use":                       func(a *attic) { a.stored[0].InUse = true },
		"wanted":                       func(a *attic) { a.stored[0].Wanted = true },
		"not pulled":                   func(a *attic) { a.stored[0].Pulled = false },
		"pinned":                       func(a *attic) { a.stored[0].Pinned = true },
		"just used":                    func(a *attic) { a.stored[0].LastUsed = time.Now().Add(4 * time.Minute) },
		"asked for at the last moment": func(a *attic) { a.used = "a" },
	} {
		t.Run(sentence, func(t *testing.T) {
			inAttic(t, usual, func(a *attic) {
				a.set(func() { change(a) })
				a.set(func() { a.others = 65 })
				if got := a.pass(sweepEvery); got != "b c" {
					t.Errorf("%q are removed", got)
				}
			})
		})
	}
	t.Run("all, as long as it is not known what is wanted", func(t *testing.T) {
		inAttic(t, usual, func(a *attic) {
			a.set(func() { a.known, a.others = false, 70 })
			if got := a.pass(sweepEvery); got != "" || a.lists != 0 {
				t.Errorf("%q are removed", got)
			}
		})
	})
	t.Run("all, where that is off", func(t *testing.T) {
		inAttic(t, reclaim.Policy{High: 100, Low: 80, MinAge: time.Minute}, func(a *attic) {
			a.set(func() { a.others = 70 })
			if got := a.pass(time.Hour); got != "" || a.looks != 0 {
				t.Errorf("%q are removed", got)
			}
		})
	})
}

func TestOldImagesGo(t *testing.T) {
	policy := usual
	policy.MaxAge = 34 * time.Minute
	inAttic(t, policy, func(a *attic) {
		if got := a.pass(sweepEvery); got != "a" || a.count(t, forAge) != 1 || a.count(t, forSpace) != 0 || len(a.told) != 0 {
			t.Errorf("%q are removed, %q is told", got, a.told)
		}
	})
}

func TestAPullLooksForRoom(t *testing.T) {
	inAttic(t, usual, func(a *attic) {
		for range 10 {
			a.notePull(nil)
		}
		if got := a.pass(time.Second); got != "" || a.lists != 0 || a.looks == 0 || a.looks > 10 {
			t.Errorf("with room it looks %d times, lists %d times and removes %q", a.looks, a.lists, got)
		}
		a.set(func() { a.others = 60 })
		a.notePull(nil)
		if got := a.pass(time.Second); got != "a" {
			t.Errorf("%q are removed", got)
		}
	})
}

func TestAPullWithoutRoomGetsAllThereIs(t *testing.T) {
	inAttic(t, usual, func(a *attic) {
		a.notePull(errors.New("unauthorized"))
		if got := a.pass(time.Second); got != "" || a.looks != 0 {
			t.Errorf("for another failure %q are removed", got)
		}
		full := errors.New("rpc error: write /var/lib/x: no space left on device")
		a.notePull(full) // which has taken nothing, in the end
		if got := a.pass(time.Second); got != "a b c" || a.freed != 1 || len(a.told) != 0 {
			t.Errorf("%q are removed, pulls are told %d times of room, and people %q", got, a.freed, a.told)
		}
		a.notePull(full)
		if got := a.pass(time.Second); got != "" || a.freed != 1 || len(a.told) != 1 {
			t.Errorf("%q are removed, pulls are told %d times of room, and people %q", got, a.freed, a.told)
		}
	})
}

func TestADiskThatCannotBeLookedAt(t *testing.T) {
	inAttic(t, usual, func(a *attic) {
		a.set(func() { a.broken, a.others = errors.New("broken"), 70 })
		if got := a.pass(sweepEvery); got != "" || len(a.told) != 0 {
			t.Errorf("%q are removed, %q is told", got, a.told)
		}
		a.set(func() { a.broken = nil })
		if got := a.pass(sweepEvery); got != "a b" {
			t.Errorf("afterwards %q are removed", got)
		}
	})
}

// TestImagesThatPodsWant has Pods that are wanted and have not begun, that run, that have ended for good or only for now, and one
// that is not wanted any more and still ends.
func TestImagesThatPodsWant(t *testing.T) {
	t.Parallel()
	a := follows(t)
	wanted := func() string {
		names, known := a.wantedImages()
		if !known {
			return "not known"
		}
		slices.Sort(names)
		return strings.Join(slices.Compact(names), " ")
	}
	pod := func(name string, phase v1.PodPhase, reason string) *v1.Pod {
		p := somePod(name)
		p.Spec.InitContainers[0].Image, p.Spec.Containers[0].Image = name+"-init", name
		p.Spec.Volumes = []v1.Volume{{Name: "disk"}, {Name: "files", VolumeSource: v1.VolumeSource{Image: &v1.ImageVolumeSource{Reference: name + "-files"}}}}
		p.Status, p.Spec.RestartPolicy = v1.PodStatus{Phase: phase, Reason: reason}, v1.RestartPolicyAlways
		return p
	}
	report := func(p *v1.Pod) *v1.Pod {
		w := newWorker(key(p), a.surroundings)
		w.origin = SourceDirectory
		if p.Name == "gone" {
			w.origin = SourceAPI
		}
		w.published.Store(p)
		a.enlist(w)
		return p
	}
	var set manifests.Set
	for _, p := range []*v1.Pod{
		pod("new", "", ""), report(pod("runs", v1.PodRunning, "")), report(pod("done", v1.PodSucceeded, "")),
		report(pod("late", v1.PodFailed, "DeadlineExceeded")), report(pod("back", v1.PodFailed, "Evicted")),
		report(pod("gone", v1.PodFailed, "Evicted")),
	} {
		set.Pods = append(set.Pods, manifests.Pod{Pod: p})
	}
	report(pod("ends", v1.PodRunning, ""))
	a.sources.tell(SourceDirectory, set)
	if got := wanted(); got != "not known" {
		t.Errorf("one source has not spoken, and it is %s", got)
	}
	a.sources.tell(SourceAPI, manifests.Set{})
	if got, want := wanted(), "back back-files back-init ends ends-files ends-init new new-files new-init runs runs-files runs-init"; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	set.Err = errors.New("the directory is not there")
	a.sources.tell(SourceDirectory, set)
	if got := wanted(); got != "not known" {
		t.Errorf("one source cannot be read, and it is %s", got)
	}
}
