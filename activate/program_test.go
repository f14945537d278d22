package activate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == accountName {
		if err := beProgram(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// self is what a program tells of itself to a client.
type self struct {
	PID, UID, GID, Session int
	Groups, Up             []int // up are the network links that are
	Args, Environment      []string
	Folder, Status         string
}

// beProgram is what this binary does where it is started as the program: it tells a client of itself, and then does what its
// argument says.
func beProgram() error {
	then := os.Args[1]
	if then == "fail" {
		return errors.New("no certificates")
	}
	if then == "stay whatever comes" {
		signal.Ignore(syscall.SIGTERM)
	}
	l, err := net.FileListener(os.NewFile(3, "socket"))
	if err != nil {
		return err
	}
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	fmt.Println("answers")
	fmt.Fprint(os.Stderr, "a client")
	s := self{PID: os.Getpid(), UID: os.Getuid(), GID: os.Getgid(), Args: os.Args, Environment: os.Environ()}
	s.Groups, _ = os.Getgroups()
	s.Session, _ = unix.Getsid(0)
	s.Folder, _ = os.Getwd()
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, link := range links {
		if link.Flags&net.FlagUp != 0 {
			s.Up = append(s.Up, link.Index)
		}
	}
	status, _ := os.ReadFile("/proc/self/status")
	s.Status = string(status)
	if err := errors.Join(json.NewEncoder(conn).Encode(s), conn.Close()); err != nil {
		return err
	}
	if then == "end" {
		return nil
	}
	select {}
}

// journal is a log that can be waited for.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
	more chan struct{} // is closed with the next line
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	close(j.more)
	j.more = make(chan struct{})
	return j.text.Write(p)
}

func (j *journal) String() string {
	text, _ := j.read()
	return text
}

func (j *journal) read() (string, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String(), j.more
}

// await waits until the log has a text.
func (j *journal) await(text string) {
	for {
		said, more := j.read()
		if strings.Contains(said, text) {
			return
		}
		<-more
	}
}

// room is a Run that goes on, and its program.
type room struct {
	t        *testing.T
	cfg      Config
	log      *journal
	prepared atomic.Int32
	fault    atomic.Pointer[error] // of Prepare
	stop     func()
	ended    chan struct{}
}

// open has a program that does what an argument says be started for clients of an address.
func open(t *testing.T, address, then string) *room {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("starting a program as another user needs root")
	}
	r := &room{t: t, log: &journal{more: make(chan struct{})}, ended: make(chan struct{})}
	r.cfg = Config{
		Address: address, Program: filepath.Join(t.TempDir(), accountName), Args: []string{then},
		Account: Account{UID: accountNumber, GID: accountNumber + 1}, Log: slog.New(slog.NewTextHandler(r.log, nil)),
		Prepare: func() error {
			r.prepared.Add(1)
			if err := r.fault.Load(); err != nil {
				return *err
			}
			return nil
		},
	}
	this, err := os.Executable()
	if err == nil {
		err = os.Symlink(this, r.cfg.Program)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *room) run() {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		Run(ctx, r.cfg)
		close(r.ended)
	}()
	r.stop = func() { cancel(); <-r.ended }
	r.t.Cleanup(func() {
		r.stop()
		if r.t.Failed() {
			r.t.Log(r.log)
		}
	})
}

var addresses atomic.Int32

// freeAddress is one that nobody else listens at: of the loopback's many, each test has its own.
func freeAddress() string {
	n := addresses.Add(1)
	return fmt.Sprintf("127.%d.%d.%d:7443", 64+n/250%64, os.Getpid()%250+1, n%250+1)
}

// dial connects to an address that is not listened at yet, for a moment.
func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			return conn
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatal(err)
		}
	}
}

// ask is what the program tells a client.
func (r *room) ask() self {
	r.t.Helper()
	conn := dial(r.t, r.cfg.Address)
	defer conn.Close()
	answer, err := io.ReadAll(conn)
	if err != nil {
		r.t.Fatal(err)
	}
	var s self
	if err := json.Unmarshal(answer, &s); err != nil {
		r.t.Fatalf("%q: %v", answer, err)
	}
	return s
}

func TestTheProgramIsStartedForAClientAndHasNoRights(t *testing.T) {
	t.Parallel()
	for sentence, reachable := range map[string]bool{"in a folder that it may enter": true, "in one that it may not": false} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			r := open(t, freeAddress(), "end")
			if reachable {
				r.cfg.Program = forAll(t)
			}
			r.run()
			s := r.ask()
			r.stop()
			if s.UID != accountNumber || s.GID != accountNumber+1 || len(s.Groups) > 0 {
				t.Errorf("it is %d:%d of groups %v", s.UID, s.GID, s.Groups)
			}
			if len(s.Up) > 0 {
				t.Errorf("it has a network: links %d", s.Up)
			}
			if !slices.Equal(s.Environment, []string{"LISTEN_FDS=1"}) || s.Folder != "/" || s.Session != s.PID {
				t.Errorf("its environment is %q in %s, its session that of %d", s.Environment, s.Folder, s.Session)
			}
			if !slices.Equal(s.Args, []string{r.cfg.Program, "end"}) {
				t.Errorf("it is %q", s.Args)
			}
			for _, want := range []string{"NoNewPrivs:\t1", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapAmb:\t0000000000000000"} {
				if !strings.Contains(s.Status, want) {
					t.Errorf("its status is not %s:\n%s", want, s.Status)
				}
			}
			for _, want := range []string{`api=answers`, `api="a client"`} {
				if !strings.Contains(r.log.String(), want) {
					t.Errorf("the log has no %s", want)
				}
			}
			if n := r.prepared.Load(); n != 1 {
				t.Errorf("it was prepared %d times", n)
			}
		})
	}
}

// forAll is a copy of the program in a folder that everybody may enter.
func forAll(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "activate")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	this, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, accountName)
	// Not written from here: what another test starts meanwhile would hold it open, and so it could not be run.
	if err := errors.Join(os.Chmod(dir, 0o755), exec.Command("cp", this, program).Run()); err != nil {
		t.Fatal(err)
	}
	return program
}

func TestTheNextClientHasTheProgramStartedAgain(t *testing.T) {
	t.Parallel()
	r := open(t, freeAddress(), "end")
	r.run()
	first, second := r.ask(), r.ask()
	if first.PID == second.PID {
		t.Errorf("both are answered by %d", first.PID)
	}
}

func TestAClientWaitsWhileThereIsSomethingToMend(t *testing.T) {
	t.Parallel()
	r := open(t, freeAddress(), "end")
	fault := errors.New("the CA is broken")
	r.fault.Store(&fault)
	r.run()
	conn := dial(t, r.cfg.Address)
	defer conn.Close()
	r.log.await("the CA is broken")
	r.fault.Store(nil)
	if answer, err := io.ReadAll(conn); err != nil || len(answer) == 0 {
		t.Errorf("%q, %v", answer, err)
	}
}

func TestAProgramThatFailsIsToldOf(t *testing.T) {
	t.Parallel()
	r := open(t, freeAddress(), "fail")
	r.run()
	conn := dial(t, r.cfg.Address)
	defer conn.Close()
	r.log.await("is started again")
	r.stop()
	if got := r.log.String(); !strings.Contains(got, `api="no certificates"`) || !strings.Contains(got, "exit status 1") {
		t.Errorf("the log does not say why: %s", got)
	}
}

func TestAProgramThatIsNotThereIsToldOf(t *testing.T) {
	t.Parallel()
	r := open(t, freeAddress(), "end")
	r.cfg.Program = "/nowhere/podkeeper-api"
	r.run()
	conn := dial(t, r.cfg.Address)
	defer conn.Close()
	r.log.await("start /nowhere/podkeeper-api: ")
}

func TestTheProgramEndsWithTheAgentThatStops(t *testing.T) {
	t.Parallel()
	for _, then := range []string{"stay", "stay whatever comes"} {
		r := open(t, freeAddress(), then)
		r.run()
		s := r.ask()
		r.stop()
		if err := syscall.Kill(s.PID, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("%s: %d is there: %v", then, s.PID, err)
		}
		if strings.Contains(r.log.String(), "failed") {
			t.Errorf("%s: that is taken for a fault", then)
		}
	}
}

func TestAnAddressIsTakenOverFromWhatAnAgentHasLeft(t *testing.T) {
	t.Parallel()
	left, err := net.Listen("tcp", freeAddress())
	if err != nil {
		t.Fatal(err)
	}
	r := open(t, left.Addr().String(), "end")
	r.run()
	syscall.ForkLock.RLock() // else a child of another test has a copy, until it becomes its program
	err = left.Close()
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	r.ask()
}

func TestLinesThatAreLogged(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", longest)
	for sentence, c := range map[string]struct {
		written []string
		want    []string
	}{
		"a line each":                          {[]string{"a\nb\n"}, []string{"a", "b"}},
		"a line that comes in pieces":          {[]string{"a", "b\nc", "\n"}, []string{"ab", "c"}},
		"the last one without its end":         {[]string{"a\nb"}, []string{"a", "b"}},
		"no empty ones":                        {[]string{"\n\na\n\n"}, []string{"a"}},
		"a long one in parts":                  {[]string{long + "y\nz"}, []string{long, "y", "z"}},
		"a long one that is written in pieces": {[]string{long[1:], "xy", "\n"}, []string{long, "y"}},
	} {
		said := &record{}
		l := &lines{log: slog.New(said)}
		for _, p := range c.written {
			if n, err := io.WriteString(l, p); n != len(p) || err != nil {
				t.Errorf("%s: %d, %v", sentence, n, err)
			}
		}
		l.flush()
		if !slices.Equal(said.lines, c.want) {
			t.Errorf("%s: %q", sentence, said.lines)
		}
	}
}
