// Package reclaim decides what goes of itself: images, when room is needed on the disk that they are on, or when nobody has used
// them for long, in the kubelet's terms (kubernetes/kubernetes pkg/kubelet/images/image_gc_manager.go); and Pods that have ended.
// It is pure: it must not know how images, disks and Pods are looked at, nor what time it is.
package reclaim

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Policy says when images go. The zero value is never.
type Policy struct {
	High   int           // percent of the disk in use from which on images go (imageGCHighThresholdPercent)
	Low    int           // percent that is aimed at then (imageGCLowThresholdPercent)
	MinAge time.Duration // for how long an image must not have been used (imageMinimumGCAge)
	MaxAge time.Duration // after how long one that is not used goes, whatever room there is (imageMaximumGCAge); 0 is never
}

// Off says whether no image is ever to go of itself.
func (p Policy) Off() bool { return p == Policy{} || p.High == 100 && p.MaxAge == 0 }

// Used is how much of a disk is in use, in percent.
func Used(capacity, available uint64) int {
	if capacity == 0 {
		return 0
	}
	return 100 - int(min(available, capacity)*100/capacity)
}

// Full says whether room is needed on a disk.
func (p Policy) Full(capacity, available uint64) bool {
	return capacity > 0 && Used(capacity, available) >= p.High
}

// Aim is how many bytes are to be available on a disk where room was needed.
func (p Policy) Aim(capacity uint64) uint64 { return capacity * uint64(100-p.Low) / 100 }

// Hold is why an image stays. The empty one does not hold it.
type Hold string

// The holds. What was not pulled, but imported, might not be had again.
const (
	InUse     Hold = "in use by containers"
	Wanted    Hold = "wanted by Pods"
	NotPulled Hold = "imported, not pulled"
	Pinned    Hold = "pinned"
	Recent    Hold = "pulled or used a moment ago"
)

// holds is their order where they are told of.
var holds = []Hold{InUse, Wanted, NotPulled, Pinned, Recent}

// Image is one image that is there.
type Image struct {
	ID       string
	Size     int64 // bytes
	LastUsed time.Time
	Held     Hold // but for Recent, which follows from LastUsed
}

// Choice is what may go, each the one first that was used the longest time ago, and what stays.
type Choice struct {
	Expired []Image // go in any case
	Spare   []Image // go, one after another, as long as room is needed
	Kept    map[Hold]Sum
}

// Sum is how many images, and their bytes.
type Sum struct {
	Images int
	Size   int64
}

// Choose sorts images by what may become of them.
func (p Policy) Choose(images []Image, now time.Time) Choice {
	c := Choice{Kept: map[Hold]Sum{}}
	images = slices.Clone(images)
	slices.SortFunc(images, func(a, b Image) int {
		return cmp.Or(a.LastUsed.Compare(b.LastUsed), cmp.Compare(b.Size, a.Size), cmp.Compare(a.ID, b.ID))
	})
	for _, image := range images {
		age := now.Sub(image.LastUsed)
		if image.Held == "" && age < p.MinAge {
			image.Held = Recent
		}
		switch {
		case image.Held != "":
			sum := c.Kept[image.Held]
			c.Kept[image.Held] = Sum{sum.Images + 1, sum.Size + image.Size}
		case p.MaxAge > 0 && age > p.MaxAge:
			c.Expired = append(c.Expired, image)
		default:
			c.Spare = append(c.Spare, image)
		}
	}
	return c
}

const mib = 1 << 20

// Shortage tells people that there is not enough room once all images are gone that may, and what holds the disk. The beginning
// is the kubelet's.
func Shortage(dir string, capacity, available, freed uint64, kept map[Hold]Sum) string {
	var whose []string
	for _, hold := range holds {
		if sum := kept[hold]; sum.Images > 0 {
			whose = append(whose, fmt.Sprintf("%d %s (%d MiB)", sum.Images, hold, sum.Size/mib))
		}
	}
	images := "No image is left"
	if len(whose) > 0 {
		images = "Images that stay: " + strings.Join(whose, ", ")
	}
	return fmt.Sprintf("Insufficient free disk space on the node's image filesystem (%d%% of %d MiB used). Failed to free sufficient space by "+
		"deleting unused images (freed %d MiB). %s. The rest of what is on the file system of %s are writable layers, logs, volumes and other files.",
		Used(capacity, available), capacity/mib, freed/mib, images, dir)
}
