package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/v1"

	hackimage "github.com/podkeeper/podkeeper/hack/image"
)

// tarOf is a tar of these headers, each with so many zeros as it says.
func tarOf(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(w, zeros{}, h.Size); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// peak is the most memory that the agent has ever had, in bytes.
func (n *node) peak() int {
	n.t.Helper()
	kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(statusOf(n.t, fmt.Sprintf("/proc/%d", n.agent.Process.Pid))["VmHWM"]), " kB"))
	if err != nil {
		n.t.Fatal(err)
	}
	return kib << 10
}

// TestImagesThatAttack has archives in the image directory that lie about their size, or are larger than memory should be, and one
// whose layer tries to write files of the host and brings devices along. The agent and other Pods take no notice.
func TestImagesThatAttack(t *testing.T) {
	t.Parallel()
	n := launch(t)
	n.apply("other.yaml", simple("other", forever))
	other := n.awaitReady("other")
	n.stopAgent()
	images, host := n.path("images"), n.path("out")
	const mib = 1 << 20
	var liar bytes.Buffer
	if err := tar.NewWriter(&liar).WriteHeader(&tar.Header{Name: "blob", Size: 1 << 40}); err != nil {
		t.Fatal(err)
	}
	config := tarOf(t, tar.Header{Name: "config.json", Size: 96 * mib})
	var index bytes.Buffer
	w := tar.NewWriter(&index)
	const manifest = `[{"Config": "config.json", "RepoTags": ["podkeeper.local/big:config"], "Layers": []}]`
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "manifest.json", Size: int64(len(manifest))}), second(io.WriteString(w, manifest)), w.Flush()); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"liar.tar": liar.Bytes(), "noise.tar": bytes.Repeat([]byte("noise"), 1000),
		"config.tar": append(index.Bytes(), config...), "manifest.tar": tarOf(t, tar.Header{Name: "manifest.json", Size: 96 * mib}),
	} {
		if err := errors.Join(os.MkdirAll(images, 0o755), os.WriteFile(filepath.Join(images, name), content, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	rootfs := tarOf(t,
		tar.Header{Name: "../../../../../../../../.." + host + "/escaped", Typeflag: tar.TypeReg, Mode: 0o644},
		tar.Header{Name: host + "/absolute", Typeflag: tar.TypeReg, Mode: 0o644},
		tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: host},
		tar.Header{Name: "link/through", Typeflag: tar.TypeReg, Mode: 0o644},
		tar.Header{Name: "up", Typeflag: tar.TypeSymlink, Linkname: "../../../../../../../../.." + host},
		tar.Header{Name: "up/through", Typeflag: tar.TypeReg, Mode: 0o644},
		tar.Header{Name: "disk", Typeflag: tar.TypeBlock, Devmajor: 8, Mode: 0o666},
		tar.Header{Name: "mem", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 1, Mode: 0o666},
		tar.Header{Name: "zeros", Typeflag: tar.TypeReg, Mode: 0o644, Size: 96 * mib}, // a few KiB in the archive
	)
	content, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("there is no shell for an image: ", err)
	}
	var layer bytes.Buffer
	layer.Write(rootfs[:len(rootfs)-1024]) // without the end of the archive
	w = tar.NewWriter(&layer)
	for _, h := range []tar.Header{{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "bin/sh", Typeflag: tar.TypeReg, Mode: 0o4755, Size: int64(len(content))}} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			_, _ = w.Write(content)
		}
	}
	_ = w.Close()
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil }
	if err := hackimage.Write(filepath.Join(images, "z.tar"), "podkeeper.local/hostile:v1", open, ggcr.Config{}); err != nil {
		t.Fatal(err)
	}
	n.flags = append(n.flags, "--image-dir", images)
	n.restart()
	defer func() { n.flags = nil }()
	before := n.peak()
	for name, why := range map[string]string{
		"liar.tar": "and the whole archive", "noise.tar": "it is no image archive", "config.tar": "at most 4 MiB are read", "manifest.tar": "at most 4 MiB are read",
	} {
		n.eventually("it is told why "+name+" is not imported", func() error {
			for line := range strings.Lines(n.log.String()) {
				if strings.Contains(line, "image archive cannot be imported") && strings.Contains(line, "file="+filepath.Join(images, name)) && strings.Contains(line, why) {
					return nil
				}
			}
			return errors.New("it is not")
		})
	}
	n.eventually("the image with the hostile layer is imported, or refused", func() error {
		if !strings.Contains(n.log.String(), "podkeeper.local/hostile:v1") && !strings.Contains(n.log.String(), "file="+filepath.Join(images, "z.tar")) {
			return errors.New("not yet")
		}
		return nil
	})
	if took := n.peak() - before; took > 64*mib {
		t.Errorf("that took %d MiB of memory", took/mib)
	}
	n.apply("hostile.yaml", strings.Replace(simple("hostile", "for d in disk mem; do (dd if=/$d of=/dev/null count=1) 2>/dev/null && echo reads $d; (exec 3</$d) 2>/dev/null && echo opens $d; done; echo "+tried+"; while :; do sleep 1; done"), image, "podkeeper.local/hostile:v1", 1)+"    imagePullPolicy: Never\n")
	n.winsNothing(n.awaitReady("hostile"), "app")
	if files, err := os.ReadDir(host); err != nil || len(files) > 0 {
		t.Errorf("on the host there are %v, %v", files, err)
	}
	now := n.awaitReady("other")
	if now.UID != other.UID || containerStatus(now, "app").RestartCount > 0 {
		t.Errorf("the other Pod is %+v", now.Status)
	}
}

func second[T any](_ T, err error) error { return err }
