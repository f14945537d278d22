package agent

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/agent/reclaim"
)

// imageStore is where images are: node.Node, or in tests something that pretends to be one.
type imageStore interface {
	ImageDisk(ctx context.Context) (dir string, disk node.Disk, err error)
	StoredImages(ctx context.Context, wanted []string) ([]node.StoredImage, error)
	NoteUses(ctx context.Context, images []node.StoredImage) error
	RemoveImage(ctx context.Context, image node.StoredImage, decided time.Time) error
}

// images removes images that nobody needs, when room is needed or they are old. It looks from time to time, as rarely as the
// kubelet does, and when there was a pull.
type images struct {
	of      imageStore
	policy  reclaim.Policy
	wanted  func() (names []string, known bool) // of images, as Pods have them
	tell    func(reason, message string)        // a warning about the node
	freed   func()                              // there is room, after a pull has failed for want of it
	counted *prometheus.CounterVec              // by why
	log     *slog.Logger

	pulled, starved chan struct{} // of size 1: there was a pull; one has failed for want of room
}

// Why images are removed, as the kubelet counts it.
const (
	forAge   = "age"
	forSpace = "space"
)

// sweepImagesTimeout bounds one round; what is left to do then is done in the next.
const sweepImagesTimeout = 2 * time.Minute

func newImages(of imageStore, policy reclaim.Policy, log *slog.Logger) *images {
	return &images{
		of: of, policy: policy, log: log, pulled: make(chan struct{}, 1), starved: make(chan struct{}, 1),
		counted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kubelet_image_garbage_collected_total", Help: "Images removed because of their age, or for want of space.",
		}, []string{"reason"}),
	}
}

// notePull hears of a pull: it was done, or has failed.
func (i *images) notePull(err error) {
	heard := i.pulled
	if err != nil {
		heard = i.starved
		if !node.IsFull(err) {
			return
		}
	}
	select {
	case heard <- struct{}{}:
	default:
	}
}

// run looks after images until ctx ends.
func (i *images) run(ctx context.Context) {
	if i.policy.Off() {
		return
	}
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			err = i.sweep(ctx, false)
		case <-i.starved:
			err = i.sweep(ctx, true)
		case <-i.pulled: // usually there is room, which is soon seen
			var d disk
			if d, err = i.look(ctx); err == nil && i.full(d) {
				err = i.sweep(ctx, false)
			}
		}
		if err != nil && ctx.Err() == nil {
			i.log.Warn("images are not looked after", "error", err)
		}
	}
}

// disk is a file system, and a folder on it.
type disk struct {
	dir string
	node.Disk
}

// look looks at the disk that images are on.
func (i *images) look(ctx context.Context) (d disk, err error) {
	d.dir, d.Disk, err = i.of.ImageDisk(ctx)
	if err == nil && d.Capacity == 0 {
		i.tell("InvalidDiskCapacity", "invalid capacity 0 on image filesystem")
	}
	return d, err
}

func (i *images) full(d disk) bool { return i.policy.Full(d.Capacity, d.Available) }

// sweep removes what is too old, and what has to go that there be room. For a pull that had no room that is all that may go: how
// much it needs nobody knows.
func (i *images) sweep(ctx context.Context, starved bool) error {
	ctx, cancel := context.WithTimeout(ctx, sweepImagesTimeout)
	defer cancel()
	r, err := i.begin(ctx)
	if r == nil || err != nil {
		return err
	}
	for _, image := range r.choice.Expired {
		r.remove(ctx, image, forAge)
	}
	r.makeRoom(ctx, r.choice, starved)
	if starved && r.removed > 0 {
		i.freed()
	}
	return r.err
}

// begin begins a round by the images that there are. As long as not all that is wanted is known, there is none.
func (i *images) begin(ctx context.Context) (*round, error) {
	wanted, known := i.wanted()
	if !known {
		return nil, nil
	}
	decided := time.Now()
	stored, err := i.of.StoredImages(ctx, wanted)
	if err != nil {
		return nil, err
	}
	r := &round{images: i, stored: map[string]node.StoredImage{}, decided: decided, err: i.of.NoteUses(ctx, stored)}
	for _, s := range stored {
		r.stored[s.ID] = s
	}
	r.choice = i.policy.Choose(judged(stored), decided)
	return r, nil
}

// empty removes all images that may go: there is pressure on the disk.
func (i *images) empty(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sweepImagesTimeout)
	defer cancel()
	r, err := i.begin(ctx)
	if r == nil || err != nil {
		return err
	}
	for _, image := range slices.Concat(r.choice.Expired, r.choice.Spare) {
		r.remove(ctx, image, forSpace)
	}
	return r.err
}

// judged says of images why they stay.
func judged(stored []node.StoredImage) []reclaim.Image {
	var all []reclaim.Image
	for _, s := range stored {
		image := reclaim.Image{ID: s.ID, Size: s.Size, LastUsed: s.LastUsed}
		switch {
		case s.InUse:
			image.Held = reclaim.InUse
		case s.Wanted:
			image.Held = reclaim.Wanted
		case !s.Pulled:
			image.Held = reclaim.NotPulled
		case s.Pinned:
			image.Held = reclaim.Pinned
		}
		all = append(all, image)
	}
	return all
}

// round is one round of removals.
type round struct {
	*images
	stored  map[string]node.StoredImage // by ID
	decided time.Time
	choice  reclaim.Choice
	removed int
	err     error
}

// remove removes an image, unless somebody has asked for it meanwhile, and says whether it is gone.
func (r *round) remove(ctx context.Context, image reclaim.Image, why string) bool {
	s := r.stored[image.ID]
	if err := r.of.RemoveImage(ctx, s, r.decided); err != nil {
		if !errors.Is(err, node.ErrImageUsed) {
			r.err = errors.Join(r.err, err)
		}
		return false
	}
	r.removed++
	r.counted.WithLabelValues(why).Inc()
	r.log.Info("image removed", "image", s.Names, "for", why, "lastUsed", s.LastUsed, "bytes", s.Size)
	return true
}

// makeRoom removes one image after another until there is room: by what that frees, for images share layers, or by their sizes,
// where the file system takes its time. Where nothing helps it says what holds the disk.
func (r *round) makeRoom(ctx context.Context, choice reclaim.Choice, starved bool) {
	before, err := r.look(ctx)
	now, sizes := before, uint64(0)
	if err == nil && (starved || r.full(before)) {
		for _, image := range choice.Spare {
			if !starved && max(now.Available, before.Available+sizes) >= r.policy.Aim(now.Capacity) {
				break
			}
			if r.remove(ctx, image, forSpace) {
				sizes += uint64(image.Size)
			}
			if now, err = r.look(ctx); err != nil {
				break
			}
		}
	}
	if err != nil {
		r.err = errors.Join(r.err, err)
		return
	}
	noneLeft := sizes == 0 || r.removed == len(choice.Expired)+len(choice.Spare)
	if noneLeft && (r.full(now) || starved && r.removed == 0) {
		freed := now.Available - min(now.Available, before.Available)
		r.tell("FreeDiskSpaceFailed", reclaim.Shortage(now.dir, now.Capacity, now.Available, freed, choice.Kept))
	}
}

// wantedImages are the images of all Pods that are wanted or there, but of those that have ended for good; not known as long as
// not all that is wanted is.
func (a *Agent) wantedImages() (names []string, known bool) {
	if !a.sources.settled() {
		return nil, false
	}
	for key, wish := range a.sources.wishes() {
		if w := a.named(key); w == nil || !w.isOver() {
			names = append(names, imagesOf(wish.Pod.Pod)...)
		}
	}
	for _, w := range a.all() {
		if pod := w.published.Load(); pod != nil && !w.isOver() {
			names = append(names, imagesOf(pod)...)
		}
	}
	return names, true
}

// isOver says whether the Pod has ended for good.
func (w *worker) isOver() bool {
	pod := w.published.Load()
	return pod != nil && isTerminal(pod.Status.Phase) && !comesBack(w, pod)
}

// imagesOf are the images of a Pod's containers and volumes.
func imagesOf(pod *v1.Pod) (names []string) {
	for _, c := range plan.Containers(pod) {
		names = append(names, c.Image)
	}
	for _, v := range pod.Spec.Volumes {
		if v.Image != nil {
			names = append(names, v.Image.Reference)
		}
	}
	return names
}

// warnOfNode tells people of something that is wrong with the node.
func (a *Agent) warnOfNode(reason, message string) {
	a.log.Warn("node warning", "reason", reason, "message", message)
	a.events.addNode(v1.EventTypeWarning, reason, message)
}
