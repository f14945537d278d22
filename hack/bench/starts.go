package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// starts sees main processes start: each writes a file, whose time of change on the host is the time of its start. The
// kernel takes that time from a clock that is up to 4 ms behind.
type starts struct {
	dir     string
	watcher *fsnotify.Watcher
}

func watchStarts(dir string) (*starts, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	if err := w.Add(dir); err != nil {
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	return &starts{dir: dir, watcher: w}, nil
}

// startedFile is the file that the main process of a Pod writes.
func startedFile(pod string) string { return pod + ".started" }

// command is the main process of a Pod: it says that it runs, and ends at once when it is told to.
func command(pod string) string {
	return "trap 'exit 0' TERM; echo > /out/" + startedFile(pod) + "; sleep 1000000 & wait"
}

// wait waits until the main processes of all these Pods have started after a time, and answers how long after, in
// order.
func (s *starts) wait(ctx context.Context, pods []string, after time.Time) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	took := make([]time.Duration, len(pods))
	left := len(pods)
	for {
		for i, pod := range pods {
			if took[i] != 0 {
				continue
			}
			stat, err := os.Stat(filepath.Join(s.dir, startedFile(pod)))
			if err == nil && stat.Size() > 0 && stat.ModTime().After(after) {
				took[i] = stat.ModTime().Sub(after)
				left--
			}
		}
		if left == 0 {
			return took, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %d of %d Pods to start, %s the first: %w", left, len(pods), pods[0], ctx.Err())
		case <-s.watcher.Events:
		case err := <-s.watcher.Errors:
			return nil, fmt.Errorf("watch %s: %w", s.dir, err)
		case <-time.After(100 * time.Millisecond): // an event may have come before the file was whole
		}
	}
}
