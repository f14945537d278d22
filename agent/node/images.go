package node

import (
	"context"
	"errors"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podkeeper/podkeeper/runtime"
)

// StoredImage is an image that is there, and what has to be known to be rid of it.
type StoredImage = runtime.Stored

// ErrImageUsed is why an image is not removed: somebody has asked for it meanwhile.
var ErrImageUsed = runtime.ErrImageUsed

// StoredImages lists the images that are there, and which of them have one of the names that are wanted. It is a scan.
func (n *Node) StoredImages(ctx context.Context, wanted []string) ([]StoredImage, error) {
	return n.Runtime.StoredImages(ctx, wanted)
}

// NoteUses has it remembered beyond the agent when images were used.
func (n *Node) NoteUses(ctx context.Context, images []StoredImage) error {
	return n.Runtime.NoteUses(ctx, images)
}

// RemoveImage removes an image. It was decided at a time that this shall be.
func (n *Node) RemoveImage(ctx context.Context, image StoredImage, decided time.Time) error {
	return n.Runtime.RemoveImage(ctx, image, decided)
}

// ImageDisk is the file system that images are on, and a folder on it. Where there are two it is the one that is fuller.
func (n *Node) ImageDisk(ctx context.Context) (string, Disk, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	dirs, err := n.Runtime.ImageDirs(ctx)
	if err != nil {
		return "", Disk{}, err
	}
	return fullest(dirs)
}

// fullest is, of the file systems of some folders, the one that has the least left, and a folder on it.
func fullest(dirs []string) (dir string, full Disk, err error) {
	for _, d := range dirs {
		disk, err := fileSystem(d)
		if err != nil {
			return "", Disk{}, err
		}
		if dir == "" || free(disk) < free(full) {
			dir, full = d, disk
		}
	}
	return dir, full, nil
}

// free is what is left of a file system, as a part of all.
func free(d Disk) float64 { return float64(d.Available) / float64(max(d.Capacity, 1)) }

// IsFull says whether an error is that a file system has no room. What containerd says of that is a text.
func IsFull(err error) bool {
	return err != nil && (errors.Is(err, unix.ENOSPC) || strings.Contains(err.Error(), unix.ENOSPC.Error()))
}
