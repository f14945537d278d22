package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// What volumes are made of, and the goals in ms: of a volume of so many keys, of an edit on its way to a mounted file, of
// fsGroup over so many files that have it already.
const (
	volumeKeys  = 1000
	volumeFiles = 100_000
	edits       = 20
	goalKeys    = 100
	goalEdit    = 200
	goalFSGroup = 5
)

// configMap is the manifest of a ConfigMap.
func configMap(name string, keys int, value string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata:\n", name)
	for i := range keys {
		fmt.Fprintf(&b, "  key-%d: %q\n", i, value)
	}
	return b.Bytes()
}

const ownClaim = `apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: files}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
`

// measureVolumes measures what volumes of many files add to the start of a Pod, and how soon an edit of a ConfigMap is seen.
func (b *bench) measureVolumes(ctx context.Context) {
	b.once(ctx, "volumes", func(ctx context.Context) error {
		if b.agent.broken != nil {
			return b.agent.broken
		}
		defer func() { _ = os.Remove(b.agent.file("objects")) }()
		plain, err := b.startWith(ctx, "", "")
		if err != nil {
			return err
		}
		if err := b.offerObjects(configMap("many", volumeKeys, "value")); err != nil {
			return err
		}
		keys, err := b.startWith(ctx, "", "configMap: {name: many}")
		if err != nil {
			return err
		}
		b.report.add(Figure{Part: "volumes", Name: "a ConfigMap of 1000 keys, beyond a Pod without", Unit: "ms", Values: beyond(keys, plain), Goal: goalKeys})
		if err := b.measureEdits(ctx); err != nil {
			return err
		}
		if err := b.offerObjects([]byte(ownClaim)); err != nil {
			return err
		}
		folder := b.lab.path("root", "claims", "default", "files")
		if err := os.MkdirAll(folder, 0o777); err != nil {
			return err
		}
		for i := range volumeFiles {
			if err := os.WriteFile(filepath.Join(folder, fmt.Sprint(i)), nil, 0o644); err != nil {
				return err
			}
		}
		const group = "securityContext: {fsGroup: 3000, fsGroupChangePolicy: OnRootMismatch}"
		owned, err := b.startWith(ctx, group, "persistentVolumeClaim: {claimName: files}")
		if err != nil {
			return err
		}
		b.report.add(Figure{Part: "volumes", Name: "fsGroup over 100 000 files, first, beyond a Pod without", Unit: "ms", Values: beyond(owned[:1], plain)})
		b.report.add(Figure{Part: "volumes", Name: "  the next time, OnRootMismatch", Unit: "ms", Values: beyond(owned[1:], plain), Goal: goalFSGroup})
		return nil
	})
}

// offerObjects puts objects into the manifest directory.
func (b *bench) offerObjects(manifest []byte) error {
	_, err := b.agent.dropAll(map[string][]byte{"objects": manifest})
	return err
}

// startWith starts and removes Pods with a volume and other lines of a spec, one after the other, and answers how long each
// took until its process ran.
func (b *bench) startWith(ctx context.Context, spec, volume string) ([]float64, error) {
	var took []float64
	for range max(b.rounds, 2) {
		pod := b.names(1)[0]
		manifest := string(b.lab.manifest(pod))
		if volume != "" {
			manifest = strings.Replace(manifest, "spec:\n", "spec:\n  "+spec+"\n", 1)
			manifest = withVolume(manifest, volume)
		}
		begin, err := b.agent.dropAll(map[string][]byte{pod: []byte(manifest)})
		if err != nil {
			return nil, err
		}
		started, err := b.lab.starts.wait(ctx, []string{pod}, begin)
		if err != nil {
			return nil, err
		}
		took = append(took, ms(started...)...)
		if _, err := b.agent.remove(ctx, []string{pod}); err != nil {
			return nil, err
		}
	}
	return took, nil
}

// withVolume adds a volume, mounted at /volume, to the manifest of a Pod.
func withVolume(manifest, volume string) string {
	manifest = strings.Replace(manifest, "volumes:\n", "volumes:\n  - {name: volume, "+volume+"}\n", 1)
	return strings.Replace(manifest, "volumeMounts:\n", "volumeMounts:\n    - {name: volume, mountPath: /volume}\n", 1)
}

// beyond are values without the median of others.
func beyond(values, others []float64) []float64 {
	out := make([]float64, len(values))
	for i, v := range values {
		out[i] = max(0, v-median(others))
	}
	return out
}

// measureEdits edits a ConfigMap and waits for the file that a container sees.
func (b *bench) measureEdits(ctx context.Context) error {
	if err := b.offerObjects(configMap("edited", 1, "0")); err != nil {
		return err
	}
	pod := b.names(1)[0]
	manifest := withVolume(string(b.lab.manifest(pod)), "configMap: {name: edited}")
	if _, err := b.agent.dropAll(map[string][]byte{pod: []byte(manifest)}); err != nil {
		return err
	}
	if err := b.agent.awaitReady(ctx, 1); err != nil {
		return err
	}
	pid, err := b.agent.mainPID(ctx, pod)
	if err != nil {
		return err
	}
	file := fmt.Sprintf("/proc/%d/root/volume/key-0", pid)
	var took []float64
	for i := range edits {
		value := fmt.Sprint(i + 1)
		begin := time.Now()
		if err := b.offerObjects(configMap("edited", 1, value)); err != nil {
			return err
		}
		seen := func() (bool, error) {
			content, err := os.ReadFile(file)
			return string(content) == value, err
		}
		if err := poll(ctx, time.Millisecond, seen); err != nil {
			return fmt.Errorf("wait for the edit: %w", err)
		}
		took = append(took, ms(time.Since(begin))...)
	}
	b.report.add(Figure{Part: "volumes", Name: "an edit of a ConfigMap, until a container sees it", Unit: "ms", Values: took, Goal: goalEdit})
	_, err = b.agent.remove(ctx, []string{pod})
	return err
}
