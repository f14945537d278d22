package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
)

func TestWhatIsUnavailable(t *testing.T) {
	t.Parallel()
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	for sentence, r := range map[string]struct {
		err  error
		want bool
	}{
		"nothing":                             {nil, false},
		"containerd's own word":               {errdefs.ErrUnavailable, true},
		"in an error of ours":                 {fmt.Errorf("%w: image: %w", ErrImageInspect, fmt.Errorf("get: %w", errdefs.ErrUnavailable)), true},
		"the connection's":                    {status.Error(codes.Unavailable, "transport is closing"), true},
		"in an error of ours, too":            {fmt.Errorf("%w: pull: %w", ErrImagePull, status.Error(codes.Unavailable, "error reading from server: EOF")), true},
		"one of several":                      {errors.Join(io.EOF, status.Error(codes.Unavailable, "connection refused")), true},
		"no image":                            {fmt.Errorf("get: %w", errdefs.ErrNotFound), false},
		"a registry that refuses connections": {fmt.Errorf("%w: pull: %w", ErrImagePull, refused), false},
		"a registry that hangs up":            {fmt.Errorf("%w: pull: %w", ErrImagePull, io.EOF), false},
		"a request that took too long":        {status.Error(codes.DeadlineExceeded, "deadline"), false},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			if got := IsUnavailable(r.err); got != r.want {
				t.Errorf("%v is unavailable: %v", r.err, got)
			}
		})
	}
}

// Whatever is asked where nobody listens is told from what containerd itself refuses.
func TestNoContainerd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r, err := Open(Config{Endpoint: "unix://" + filepath.Join(dir, "none.sock"), Namespace: "none"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	image := Image{Name: "example/none:v1", chainID: "sha256:0"}
	cfg := ContainerConfig{ID: ID("uid", "app", 0), Pod: &v1.Pod{}, Container: &v1.Container{}, Command: []string{"true"}, Image: image}
	for what, do := range map[string]func() error{
		"its version":    func() error { _, err := r.Version(ctx); return err },
		"a task":         func() error { _, err := r.Look(ctx, "id"); return err },
		"all containers": func() error { _, err := r.List(ctx); return err },
		"all layers":     func() error { _, err := r.ListSnapshots(ctx); return err },
		"an image": func() error {
			_, err := r.EnsureImage(ctx, Request{Image: image.Name, Policy: v1.PullIfNotPresent})
			return err
		},
		"an image never": func() error {
			_, err := r.EnsureImage(ctx, Request{Image: image.Name, Policy: v1.PullNever})
			return err
		},
		"a layer":             func() error { return r.PrepareLayer(ctx, cfg.ID, image, nil) },
		"a record":            func() error { _, err := r.CreateContainer(ctx, cfg); return err },
		"a signal":            func() error { return r.Signal(ctx, "id", syscall.SIGTERM, false) },
		"the end of a task":   func() error { return r.DeleteTask(ctx, "box", "id") },
		"the end of it all":   func() error { return r.Delete(ctx, "id") },
		"a command":           func() error { _, _, err := r.Exec(ctx, "id", dir, []string{"true"}, 1); return err },
		"the start of a task": func() error { return r.Start(ctx, "id") },
	} {
		if err := do(); !IsUnavailable(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
