package idle

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv("IDLE_TEST_SERVES") != "" {
		if err := serve(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// serve is a server that is over at once when nobody is connected, and tells each client its pid.
func serve() error {
	if pid := os.Getenv("LISTEN_PID"); pid == "mine" {
		os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	}
	l, err := Listen("127.0.0.1:0", time.Millisecond)
	if err != nil {
		return err
	}
	fmt.Println("listens at", l.Addr(), "and hands on", os.Getenv("LISTEN_FDS"))
	err = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		fmt.Fprintln(w, os.Getpid())
	}))
	if !errors.Is(err, ErrIdle) {
		return err
	}
	return nil
}

// queue is a listener without a network: what is put into it is accepted, in virtual time.
type queue struct {
	conns    chan net.Conn
	deadline chan time.Time
	closed   chan struct{}
}

func newQueue() *queue {
	return &queue{conns: make(chan net.Conn, 1), deadline: make(chan time.Time, 1), closed: make(chan struct{})}
}

func (q *queue) Accept() (net.Conn, error) {
	var passed <-chan time.Time
	for {
		select {
		case at := <-q.deadline:
			passed = nil
			if !at.IsZero() {
				passed = time.After(time.Until(at))
			}
			continue
		default:
		}
		select {
		case at := <-q.deadline:
			q.deadline <- at
		case c := <-q.conns:
			return c, nil
		case <-passed:
			return nil, os.ErrDeadlineExceeded
		case <-q.closed:
			return nil, net.ErrClosed
		}
	}
}

func (q *queue) SetDeadline(at time.Time) error {
	select { // the one that counts is the last
	case <-q.deadline:
	default:
	}
	q.deadline <- at
	return nil
}

func (q *queue) Close() error   { close(q.closed); return nil }
func (q *queue) Addr() net.Addr { return &net.TCPAddr{} }

// connect has a client connect, and answers the server's end.
func (q *queue) connect(t *testing.T) net.Conn {
	t.Helper()
	client, server := net.Pipe()
	t.Cleanup(func() { _ = client.Close() })
	q.conns <- server
	return server
}

func TestWhenItIsOver(t *testing.T) {
	t.Parallel()
	const after = 5 * time.Minute
	type visit struct{ from, to time.Duration }
	for sentence, c := range map[string]struct {
		visits []visit
		after  time.Duration
		want   time.Duration
	}{
		"when nobody ever comes":                        {nil, after, after},
		"a while after the last one has gone":           {[]visit{{time.Minute, 2 * time.Minute}}, after, 7 * time.Minute},
		"not between two":                               {[]visit{{time.Minute, 2 * time.Minute}, {6 * time.Minute, 6 * time.Minute}}, after, 11 * time.Minute},
		"not while one stays, whatever others do":       {[]visit{{time.Minute, time.Hour}, {2 * time.Minute, 3 * time.Minute}}, after, 65 * time.Minute},
		"counted once, though one is closed repeatedly": {[]visit{{time.Minute, time.Hour}, {time.Minute, time.Minute}}, after, 65 * time.Minute},
		"never, where it is not to be":                  {[]visit{{time.Minute, time.Hour}}, 0, 0},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q := newQueue()
				l, err := watch(q, c.after)
				if err != nil {
					t.Fatal(err)
				}
				begun, over := time.Now(), make(chan time.Duration, 1)
				accepted := make(chan net.Conn, len(c.visits))
				go func() {
					for {
						conn, err := l.Accept()
						if err != nil {
							if errors.Is(err, ErrIdle) {
								over <- time.Since(begun)
							}
							close(accepted)
							return
						}
						accepted <- conn
					}
				}()
				for _, v := range c.visits {
					go func() {
						time.Sleep(v.from)
						q.connect(t)
						conn := <-accepted
						time.Sleep(v.to - v.from)
						_, _ = conn.Close(), conn.Close()
					}()
				}
				select {
				case got := <-over:
					if got != c.want {
						t.Errorf("it is over after %v, want %v", got, c.want)
					}
				case <-time.After(24 * time.Hour):
					if c.want != 0 {
						t.Error("it is never over")
					}
					_ = l.Close()
				}
			})
		})
	}
}

func TestWhoComesAtThatMomentIsServedOrLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for range 100 {
			q := newQueue()
			l, err := watch(q, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			accepted := make(chan net.Conn)
			over := make(chan error, 1)
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						over <- err
						return
					}
					accepted <- conn
				}
			}()
			go func() {
				time.Sleep(time.Minute) // as long as it takes to be over
				q.connect(t)
			}()
			select {
			case conn := <-accepted:
				synctest.Wait()
				select {
				case err := <-over:
					t.Errorf("with an open connection: %v", err)
				default:
				}
				_ = conn.Close()
				<-over
			case <-over:
				time.Sleep(time.Second)
				if len(q.conns) != 1 {
					t.Error("the client is lost")
				}
			}
		}
	})
}

func TestAListenerThatIsClosedIsNotIdle(t *testing.T) {
	t.Parallel()
	l, err := Listen("127.0.0.1:0", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Close(), conn.Close(), conn.Close()); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept: %v", err)
	}
}

// TestNoClientIsLost has servers that are over at once take turns: whoever connects, and does so at the moment when one ends, is
// answered.
func TestNoClientIsLost(t *testing.T) {
	t.Parallel()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	file, err := socket.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	done, servers := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-done:
				servers <- nil
				return
			default:
			}
			if out, err := server(file, "LISTEN_FDS=1").CombinedOutput(); err != nil {
				servers <- fmt.Errorf("%w: %s", err, out)
				return
			}
		}
	}()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answered := map[string]bool{}
	for len(answered) < 5 { // processes
		res, err := client.Get("http://" + socket.Addr().String())
		if err != nil {
			t.Error(err)
			break
		}
		pid, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil {
			t.Error(err)
		}
		answered[string(pid)] = true
	}
	close(done)
	if err := <-servers; err != nil {
		t.Error(err)
	}
}

// server is a process that is handed a file, and has an environment.
func server(file *os.File, environment ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), append(environment, "IDLE_TEST_SERVES=yes")...)
	cmd.ExtraFiles = []*os.File{file}
	return cmd
}

func TestWhatIsTakenOver(t *testing.T) {
	t.Parallel()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	unix, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close()
	for sentence, c := range map[string]struct {
		from        net.Listener
		environment []string
		want        string // is said
		refused     bool
	}{
		"what is handed over without a pid": {tcp, []string{"LISTEN_FDS=1"}, "listens at " + tcp.Addr().String() + " and hands on \n", false},
		"what is handed over to this pid":   {tcp, []string{"LISTEN_FDS=1", "LISTEN_PID=mine"}, "listens at " + tcp.Addr().String() + " and hands on \n", false},
		"not what is for another process":   {tcp, []string{"LISTEN_FDS=2", "LISTEN_PID=1"}, " and hands on 2\n", false},
		"not more than one":                 {tcp, []string{"LISTEN_FDS=2"}, "LISTEN_FDS=2: one is wanted", true},
		"not what is no socket of TCP":      {unix, []string{"LISTEN_FDS=1"}, "it is unix: TCP is wanted", true},
	} {
		file, err := c.from.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			t.Fatal(err)
		}
		out, err := server(file, c.environment...).CombinedOutput()
		if (err != nil) != c.refused || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %v: %s", sentence, err, out)
		}
		_ = file.Close()
	}
}
