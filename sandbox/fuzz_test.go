package sandbox

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzRecords has a record be whatever: it is of a process that can be looked for, or of none. No process of the host is taken for
// that of a sandbox but by the time of its start, this boot and this PID namespace.
func FuzzRecords(f *testing.F) {
	for _, content := range []string{
		`{"id": "x", "pid": 1, "startTime": 0, "bootID": "", "pidNamespace": "", "own": ["net"]}`,
		`{"pid": -1}`, `{"pid": 99999999999}`, `{"pid": 1.5}`, `{"own": [null, 7]}`, `null`, `[]`, ``,
	} {
		f.Add([]byte(content))
	}
	here, err := readHost()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, recordFile), content, 0o600); err != nil {
			t.Fatal(err)
		}
		rec, is, err := readRecord(dir)
		if err != nil || is && rec.PID <= 0 {
			t.Fatalf("it is read as %+v, %v", rec, err)
		}
		if !is {
			return
		}
		if p, err := here.hold(rec); p != nil {
			p.release()
			t.Errorf("a process is held by %s: %v", content, err)
		}
	})
}
