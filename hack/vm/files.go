package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
)

// diskSize is that of the two disks that carry files in and out, each a bare tar. They are sparse. A saved state only
// starts with disks of the size it was saved with.
const diskSize = 4 << 30

// agentDir is where guest/agent looks for its orders, relative to the guest's root.
const agentDir = "var/lib/vm-agent/"

// A transfer is one file or folder to copy; guest is absolute.
type transfer struct{ host, guest string }

func parseIn(s string) (transfer, error) {
	host, guest, _ := strings.Cut(s, ":")
	if host == "" {
		return transfer{}, errors.New("want FILE_OR_DIR or FILE_OR_DIR:GUESTPATH")
	}
	if guest == "" {
		abs, err := filepath.Abs(host)
		if err != nil {
			return transfer{}, fmt.Errorf("find %s: %w", host, err)
		}
		guest = filepath.Base(abs)
	}
	return transfer{host: host, guest: inWork(guest)}, nil
}

func parseOut(s string) (transfer, error) {
	guest, host, _ := strings.Cut(s, ":")
	if guest == "" || host == "" {
		return transfer{}, errors.New("want GUESTPATH:HOSTPATH")
	}
	return transfer{host: host, guest: inWork(guest)}, nil
}

// inWork makes a guest path absolute: the command's own folder is /work.
func inWork(guest string) string {
	if path.IsAbs(guest) {
		return path.Clean(guest)
	}
	return path.Join("/work", guest)
}

// pack writes the disk that brings the command and its files in.
func pack(w io.Writer, req request) error {
	archive := tar.NewWriter(w)
	orders := []struct{ name, content string }{{"command", req.script()}}
	if len(req.out) > 0 {
		var list strings.Builder
		for _, t := range req.out {
			list.WriteString(t.guest[1:] + "\n")
		}
		orders = append(orders, struct{ name, content string }{"out", list.String()})
	}
	if req.reboots > 0 {
		orders = append(orders, struct{ name, content string }{"reboots", ""})
	}
	for _, o := range orders {
		header := tar.Header{Typeflag: tar.TypeReg, Name: agentDir + o.name, Mode: 0o644, Size: int64(len(o.content))}
		if err := archive.WriteHeader(&header); err != nil {
			return fmt.Errorf("pack orders: %w", err)
		}
		if _, err := io.WriteString(archive, o.content); err != nil {
			return fmt.Errorf("pack orders: %w", err)
		}
	}
	for _, t := range req.in {
		if err := packTree(archive, t); err != nil {
			return fmt.Errorf("pack %s: %w", t.host, err)
		}
	}
	if err := archive.Close(); err != nil {
		return fmt.Errorf("pack files: %w", err)
	}
	return nil
}

func packTree(archive *tar.Writer, t transfer) error {
	start, err := filepath.EvalSymlinks(t.host) // what was named is followed, what it holds is not
	if err != nil {
		return err
	}
	return filepath.WalkDir(start, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		target := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			if target, err = os.Readlink(name); err != nil {
				return err
			}
		}
		header, err := tar.FileInfoHeader(info, target)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(start, name)
		if err != nil {
			return err
		}
		header.Name = path.Join(t.guest, rel)[1:]
		header.Uid, header.Gid, header.Uname, header.Gname = 0, 0, "", ""
		if err := archive.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
			return err
		}
		return copyFile(archive, name)
	})
}

func copyFile(w io.Writer, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// unpack reads the disk that brings files out, and puts each where it was asked for.
func unpack(r io.Reader, out []transfer) error {
	archive := tar.NewReader(r)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("unpack files: %w", err)
		}
		dest, ok := destination(path.Join("/", header.Name), out)
		if !ok {
			return fmt.Errorf("unpack files: nobody asked for %s", header.Name)
		}
		if err := unpackEntry(archive, header, dest); err != nil {
			return fmt.Errorf("unpack %s: %w", header.Name, err)
		}
	}
}

// destination is the host path of a guest path, by the request that is nearest to it.
func destination(guest string, out []transfer) (string, bool) {
	best, found := transfer{}, false
	rest := ""
	for _, t := range out {
		r, ok := strings.CutPrefix(guest, strings.TrimSuffix(t.guest, "/"))
		if ok && (r == "" || r[0] == '/') && len(t.guest) > len(best.guest) {
			best, rest, found = t, r, true
		}
	}
	return filepath.Join(best.host, filepath.FromSlash(rest)), found
}

func unpackEntry(r io.Reader, header *tar.Header, dest string) error {
	mode := header.FileInfo().Mode().Perm()
	if err := os.MkdirAll(filepath.Dir(dest), 0o755); err != nil {
		return err
	}
	switch header.Typeflag {
	case tar.TypeDir:
		return os.MkdirAll(dest, mode|0o700)
	case tar.TypeSymlink:
		if err := os.Remove(dest); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return os.Symlink(header.Linkname, dest)
	case tar.TypeReg:
		f, err := os.OpenFile(dest, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, mode)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		return errors.Join(err, f.Close())
	}
	return fmt.Errorf("neither file, folder nor symlink (tar type %q)", header.Typeflag)
}
