package runtime

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// archived is an archive of files, each name followed by its content.
func archived(files ...string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i+1 < len(files); i += 2 {
		_ = w.WriteHeader(&tar.Header{Name: files[i], Mode: 0o644, Typeflag: tar.TypeReg, Size: int64(len(files[i+1]))})
		_, _ = io.WriteString(w, files[i+1])
	}
	_ = w.Close()
	return b.Bytes()
}

// sparse is an archive with a file that is a terabyte long, and one byte in the archive (GNU tar's format 0.1, in PAX headers).
func sparse() []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	record := func(key, value string) string {
		for n := len(key) + len(value) + 3; ; n++ {
			if s := fmt.Sprintf("%d %s=%s\n", n, key, value); len(s) == n {
				return s
			}
		}
	}
	pax := record("GNU.sparse.major", "0") + record("GNU.sparse.minor", "1") + record("GNU.sparse.numblocks", "1") +
		record("GNU.sparse.map", "0,1") + record("GNU.sparse.size", "1099511627776")
	_ = w.WriteHeader(&tar.Header{Name: "PaxHeaders/blob", Typeflag: 'A', Size: int64(len(pax))})
	_, _ = io.WriteString(w, pax)
	_ = w.WriteHeader(&tar.Header{Name: "blob", Typeflag: tar.TypeReg, Size: 1})
	_, _ = io.WriteString(w, "x")
	_ = w.Close()
	whole := b.Bytes()
	whole[156] = tar.TypeXHeader // which the library writes only itself
	sum := 0
	copy(whole[148:156], "        ")
	for _, c := range whole[:512] {
		sum += int(c)
	}
	copy(whole[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return whole
}

func TestArchivesThatAreRefused(t *testing.T) {
	t.Parallel()
	many := make([]string, 2*maxArchived+2)
	for i := range maxArchived + 1 {
		many[2*i] = fmt.Sprint(i)
	}
	for sentence, r := range map[string]struct {
		archive []byte
		want    string // empty where it is read on
	}{
		"an image":                           {archived("manifest.json", "[]", "blobs/sha256/0", "x"), ""},
		"names that lead out are only names": {archived("../../etc/passwd", "x", "/etc/shadow", "x"), ""},
		"nothing":                            {nil, ""},
		"no archive":                         {bytes.Repeat([]byte("x"), 1024), "no image archive"},
		"half of one":                        {archived("blob", long(4096))[:2048], `"blob" has 4096 bytes, and the whole archive 2048`},
		"more files than any image has":      {archived(many...), "more than 10000 files"},
		"a large manifest":                   {archived("./manifest.json", long(maxDocument+1)), "./manifest.json has 4194305 bytes: at most 4 MiB are read"},
		"a large index":                      {archived("index.json", long(maxDocument+1)), "at most 4 MiB"},
		"a file that is not in it":           {sparse(), `"blob" has 1099511627776 bytes`},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "x.tar")
			if err := os.WriteFile(file, r.archive, 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			err = checkArchive(f)
			if r.want == "" && err != nil || r.want != "" && (err == nil || !strings.Contains(err.Error(), r.want)) {
				t.Errorf("%v, want %q", err, r.want)
			}
			if at, _ := f.Seek(0, io.SeekCurrent); err == nil && at != 0 {
				t.Errorf("what reads it then begins at %d", at)
			}
		})
	}
}

// However an archive is made, what is read of it then is no more than it has.
func FuzzArchives(f *testing.F) {
	f.Add(archived("manifest.json", "[]", "blob", "x"))
	f.Add(sparse())
	f.Add(archived("../x", long(700)))
	f.Fuzz(func(t *testing.T, archive []byte) {
		r := bytes.NewReader(archive)
		if checkArchive(r) != nil {
			return
		}
		files := tar.NewReader(r)
		var sum int64
		for {
			if _, err := files.Next(); err != nil {
				break
			}
			n, err := io.Copy(io.Discard, io.LimitReader(files, int64(len(archive))+1))
			if sum += n; err != nil || sum > int64(len(archive)) {
				t.Fatalf("%d bytes are read of an archive of %d, %v", sum, len(archive), err)
			}
		}
	})
}
