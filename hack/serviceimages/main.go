// Command serviceimages writes images of nginx, postgres and redis as docker archives, made of Debian's own packages, without
// any registry of images.
//
//	serviceimages -o DIR [-cache /var/cache/podkeeper-images]
//
// An image is built once for each version of its packages, and kept in the cache. Needs root and mmdebstrap. The exit status is
// 241 where packages cannot be had, and the last line on standard error says why: a reason to skip.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/podkeeper/podkeeper/hack/image"
)

const (
	exitUnable = 241 // as hack/vm has it
	limit      = 10 * time.Minute
)

func main() {
	out := flag.String("o", ".", "the folder to write to: nginx.tar, postgres.tar, redis.tar")
	cache := flag.String("cache", "/var/cache/podkeeper-images", "the folder that keeps what was built")
	flag.Parse()
	if err := build(*out, *cache); err != nil {
		fmt.Fprintln(os.Stderr, "serviceimages:", err)
		var no unable
		if errors.As(err, &no) {
			os.Exit(exitUnable)
		}
		os.Exit(1)
	}
}

// build writes an archive a service to out.
func build(out, cache string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := errors.Join(os.MkdirAll(out, 0o755), os.MkdirAll(cache, 0o755)); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(cache, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("open lock: %w", err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock cache: %w", err)
	}
	work := filepath.Join(cache, "build")
	if err := os.RemoveAll(work); err != nil { // of a run that was killed
		return fmt.Errorf("clear build folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	versions, err := versions(ctx)
	if err != nil {
		return err
	}
	for _, s := range services {
		kept := filepath.Join(cache, s.Name+"-"+s.key(versions)+".tar")
		if err := s.keep(ctx, work, kept); err != nil {
			return fmt.Errorf("build image of %s: %w", s.Name, err)
		}
		to := filepath.Join(out, s.Name+".tar")
		if err := os.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("replace archive: %w", err)
		}
		if err := os.Symlink(kept, to); err != nil {
			return fmt.Errorf("link archive: %w", err)
		}
	}
	return nil
}

// keep builds the service's archive where it is not kept yet, and removes those of older versions.
func (s service) keep(ctx context.Context, work, kept string) error {
	if _, err := os.Stat(kept); err == nil {
		return nil
	}
	fmt.Fprintln(os.Stderr, "serviceimages: building", s.Name)
	if err := os.MkdirAll(work, 0o755); err != nil {
		return fmt.Errorf("make build folder: %w", err)
	}
	files := filepath.Join(work, "files.tar")
	if err := s.files(ctx, work, files); err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(filepath.Dir(kept), s.Name+"-*"))
	if err != nil {
		return fmt.Errorf("look for older images: %w", err)
	}
	for _, path := range old {
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove older image: %w", err)
		}
	}
	layer := func() (io.ReadCloser, error) { return os.Open(files) }
	return image.Write(kept, "podkeeper.local/"+s.Name+":v1", layer, v1.Config{
		Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, User: s.User, Entrypoint: s.Entrypoint, Cmd: s.Cmd, StopSignal: s.StopSignal,
	})
}
