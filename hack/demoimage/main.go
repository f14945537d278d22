// Command demoimage writes a small image as a docker archive, without any registry: busybox with its applets.
//
//	demoimage -o demo.tar [-tag podkeeper.local/demo:v1] [-busybox /bin/busybox]
package main

import (
	"archive/tar"
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/podkeeper/podkeeper/hack/image"
)

func main() {
	out := flag.String("o", "demo.tar", "the archive to write")
	tag := flag.String("tag", "podkeeper.local/demo:v1", "the image's name")
	busybox := flag.String("busybox", "/bin/busybox", "a statically linked busybox (Debian: busybox-static)")
	flag.Parse()
	if err := build(*out, *tag, *busybox); err != nil {
		fmt.Fprintln(os.Stderr, "demoimage:", err)
		os.Exit(1)
	}
}

func build(out, tag, busybox string) error {
	files, err := rootfs(busybox)
	if err != nil {
		return err
	}
	layer := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files)), nil }
	return image.Write(out, tag, layer, v1.Config{Env: []string{"PATH=/bin"}, Cmd: []string{"/bin/sh"}})
}

// rootfs is the image's only layer: busybox under the name of each of its applets, users, and a few folders.
func rootfs(busybox string) ([]byte, error) {
	binary, err := os.ReadFile(busybox)
	if err != nil {
		return nil, fmt.Errorf("read busybox: %w", err)
	}
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("list applets of busybox: %w", err)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	add := func(h tar.Header, content []byte) {
		h.Size = int64(len(content))
		if err == nil {
			err = w.WriteHeader(&h)
		}
		if err == nil {
			_, err = w.Write(content)
		}
	}
	for _, dir := range []string{"bin", "etc", "home", "proc", "root", "sys", "dev", "var", "www"} {
		add(tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	}
	add(tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}, nil)
	add(tar.Header{Name: "bin/busybox", Typeflag: tar.TypeReg, Mode: 0o755}, binary)
	for _, applet := range strings.Fields(string(applets)) {
		if applet != "busybox" {
			add(tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox"}, nil)
		}
	}
	add(tar.Header{Name: "etc/passwd", Typeflag: tar.TypeReg, Mode: 0o644}, []byte("root:x:0:0:root:/root:/bin/sh\nwww:x:1000:1000:www:/home:/bin/sh\n"))
	add(tar.Header{Name: "etc/group", Typeflag: tar.TypeReg, Mode: 0o644}, []byte("root:x:0:\nwww:x:1000:\nstaff:x:50:www\n"))
	if err != nil {
		return nil, fmt.Errorf("write layer: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("write layer: %w", err)
	}
	return buf.Bytes(), nil
}
