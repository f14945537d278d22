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

// asLogCarrier names the variable by which this program is started in place of an agent that only carries the log of a container
// whose pipes are in the folder that it says.
const asLogCarrier = "PODKEEPER_TEST_LOG_CARRIER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(asLogCarrier); dir != "" {
		carryLog(dir)
	}
	if os.Getenv(asShim) != "" {
		time.Sleep(time.Hour)
	}
	goleak.VerifyTestMain(m)
}

// carryLog carries until it is killed, and says when it begins to.
func carryLog(dir string) {
	scratch, err := newScratch(1)
	if err != nil {
		panic(err)
	}
	p := pipedIn(dir, scratch)
	if _, err := p.runtime.OpenLog(p.stdout, p.stderr, p.file); err != nil {
		panic(err)
	}
	os.Stdout.WriteString(".")
	time.Sleep(time.Hour)
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
