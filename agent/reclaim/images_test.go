package reclaim

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const gib = 1 << 30

// kubelet is its defaults.
var kubelet = Policy{High: 85, Low: 80, MinAge: 2 * time.Minute}

func TestRoomThatIsNeeded(t *testing.T) {
	t.Parallel()
	for sentence, r := range map[string]struct {
		policy              Policy
		capacity, available uint64
		full                bool
		aim                 uint64
	}{
		"a disk with room":                          {kubelet, 100 * gib, 50 * gib, false, 20 * gib},
		"just below the high mark":                  {kubelet, 100 * gib, 16 * gib, false, 20 * gib},
		"at the high mark down to the low one":      {kubelet, 100 * gib, 15 * gib, true, 20 * gib},
		"a part of a percent counts as used":        {kubelet, 100 * gib, 15*gib + gib/2, true, 20 * gib},
		"a full disk":                               {kubelet, 100 * gib, 0, true, 20 * gib},
		"more available than there is is all of it": {kubelet, 100 * gib, 200 * gib, false, 20 * gib},
		"a disk of no size, which nobody can mend":  {kubelet, 0, 0, false, 0},
		"marks of somebody's own":                   {Policy{High: 50, Low: 0}, 100 * gib, 50 * gib, true, 100 * gib},
		"only where nothing at all is left":         {Policy{High: 100, Low: 80}, 100 * gib, gib / 2, true, 20 * gib},
		"not where one percent is left, at 100":     {Policy{High: 100, Low: 80}, 100 * gib, gib, false, 20 * gib},
	} {
		if got := r.policy.Full(r.capacity, r.available); got != r.full {
			t.Errorf("%s: full: %v", sentence, got)
		}
		if got := r.policy.Aim(r.capacity); got != r.aim {
			t.Errorf("%s: aims at %d, want %d", sentence, got, r.aim)
		}
	}
}

func TestOffOnlyWhereNeitherRoomNorAgeCounts(t *testing.T) {
	t.Parallel()
	for p, want := range map[Policy]bool{
		{}: true, {High: 100}: true, {High: 99}: false, {High: 100, MaxAge: time.Hour}: false, kubelet: false,
	} {
		if p.Off() != want {
			t.Errorf("%+v: %v", p, !want)
		}
	}
}

func TestWhichImagesGo(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	// image:minutes since it was used, its size in MiB, and what holds it
	image := func(id string, minutes, size int, held Hold) Image {
		return Image{ID: id, Size: int64(size) * mib, LastUsed: now.Add(-time.Duration(minutes) * time.Minute), Held: held}
	}
	aging := kubelet
	aging.MaxAge = time.Hour
	for sentence, r := range map[string]struct {
		policy         Policy
		images         []Image
		expired, spare string
		kept           map[Hold]Sum
	}{
		"nothing there": {policy: kubelet},
		"the one first that was used the longest time ago": {policy: kubelet, spare: "b c a",
			images: []Image{image("a", 5, 1, ""), image("b", 60, 1, ""), image("c", 10, 1, "")}},
		"of two as old the larger": {policy: kubelet, spare: "b a c",
			images: []Image{image("a", 5, 1, ""), image("b", 5, 2, ""), image("c", 5, 1, "")}},
		"what is used, wanted, imported or pinned stays, however old": {policy: aging, spare: "e",
			images: []Image{image("a", 9000, 1, InUse), image("b", 9000, 2, Wanted), image("c", 9000, 3, NotPulled), image("d", 9000, 4, Pinned), image("e", 5, 1, "")},
			kept:   map[Hold]Sum{InUse: {1, mib}, Wanted: {1, 2 * mib}, NotPulled: {1, 3 * mib}, Pinned: {1, 4 * mib}}},
		"what was used a moment ago stays": {policy: kubelet, spare: "b",
			images: []Image{image("a", 1, 3, ""), image("b", 2, 1, ""), image("c", 0, 4, "")},
			kept:   map[Hold]Sum{Recent: {2, 7 * mib}}},
		"what was used in the future, by a clock that was set, stays": {policy: kubelet,
			images: []Image{image("a", -60, 1, "")}, kept: map[Hold]Sum{Recent: {1, mib}}},
		"without a maximum nothing is too old": {policy: kubelet, spare: "a", images: []Image{image("a", 90000, 1, "")}},
		"what is older than the maximum goes in any case": {policy: aging, expired: "b a", spare: "c",
			images: []Image{image("a", 61, 1, ""), image("b", 90, 1, ""), image("c", 60, 1, "")}},
		"an end of use that is not known is the oldest": {policy: aging, expired: "a", spare: "b",
			images: []Image{image("b", 5, 1, ""), {ID: "a"}}},
	} {
		got := r.policy.Choose(r.images, now)
		if ids(got.Expired) != r.expired || ids(got.Spare) != r.spare {
			t.Errorf("%s: expired %q, spare %q; want %q, %q", sentence, ids(got.Expired), ids(got.Spare), r.expired, r.spare)
		}
		if r.kept == nil {
			r.kept = map[Hold]Sum{}
		}
		if diff := cmp.Diff(r.kept, got.Kept); diff != "" {
			t.Errorf("%s: %s", sentence, diff)
		}
	}
}

func ids(images []Image) string {
	var all []string
	for _, i := range images {
		all = append(all, i.ID)
	}
	return strings.Join(all, " ")
}

func TestShortageSaysWhatHoldsTheDisk(t *testing.T) {
	t.Parallel()
	const head = "Insufficient free disk space on the node's image filesystem (95% of 10240 MiB used). " +
		"Failed to free sufficient space by deleting unused images (freed 3 MiB). "
	const rest = " The rest of what is on the file system of /var/lib/containerd are writable layers, logs, volumes and other files."
	for sentence, r := range map[string]struct {
		kept map[Hold]Sum
		want string
	}{
		"images": {map[Hold]Sum{Recent: {1, mib}, InUse: {12, 3 * gib}, NotPulled: {2, 7 * mib}},
			"Images that stay: 12 in use by containers (3072 MiB), 2 imported, not pulled (7 MiB), 1 pulled or used a moment ago (1 MiB)."},
		"no image": {nil, "No image is left."},
	} {
		if got := Shortage("/var/lib/containerd", 10*gib, gib/2, 3*mib, r.kept); got != head+r.want+rest {
			t.Errorf("%s:\n%s\nwant\n%s", sentence, got, head+r.want+rest)
		}
	}
	for _, h := range []Hold{InUse, Wanted, NotPulled, Pinned, Recent} {
		if got := Shortage("/", gib, 0, 0, map[Hold]Sum{h: {1, 0}}); !strings.Contains(got, fmt.Sprintf("1 %s (0 MiB)", h)) {
			t.Errorf("nothing is told of %q: %s", h, got)
		}
	}
}
