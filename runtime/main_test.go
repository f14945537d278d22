package runtime

import (
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// asShim names the variable by which this program is started in place of a shim, which only has to be there.
const asShim = "PODKEEPER_TEST_SHIM"

func TestMain(m *testing.M) {
	if os.Getenv(asShim) != "" {
		time.Sleep(time.Hour)
	}
	goleak.VerifyTestMain(m)
}

// eventually waits for what another process does in its own time.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for begin := time.Now(); !holds(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// inPipe is how many bytes are in a pipe.
func inPipe(t *testing.T, f *os.File) int {
	t.Helper()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	var fault error
	if err := raw.Control(func(fd uintptr) { n, fault = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }); err != nil || fault != nil {
		t.Fatal(err, fault)
	}
	return n
}
