package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Settings are the same for all sandboxes of an agent.
type Settings struct {
	RunDir string // an existing folder of this host; nothing is written to it
	Log    *slog.Logger
}

// Config is all that one sandbox is made of.
type Config struct {
	ID          string
	Dir         string             // its folder, where its record is written
	NetNS       string             // path of the network namespace; empty is the host's, and then the host's name is kept, too
	Users       Users              // a user namespace that owns all the others, and whose root has every right to them; then NetNS is empty
	KeepNet     func(string) error // with Users: is handed the path of the network namespace that was made, while the process is held
	Hostname    string             // at most 64 bytes
	Sysctls     map[string]string  // of the namespaces that the sandbox has for itself
	HostIPC     bool
	SharedPID   bool     // the containers have a PID namespace together, in which the pause process is PID 1
	Pipes       []string // named pipes that it holds open, so that what is written to them waits for a reader
	Cgroup      Placement
	OOMScoreAdj int // one that this process may give
}

// Users are ids of the host that users and groups of a user namespace have, those from 0 on in there, 65536 or more of them. The
// zero value is no user namespace of its own.
type Users struct{ First, Count uint32 }

// Placement is how the pause process gets into its cgroups. Each part may be left out.
type Placement struct {
	Dir   string              // cgroup v2: a folder that it is cloned into
	Tasks []string            // cgroup v1: files that the thread which forks it enters, so that it is there from its first instruction on
	Adopt func(pid int) error // makes a cgroup around the process, which is held meanwhile
}

// Namespaces are paths of what containers share with the pause process; empty is the host's or, of PID, one a container.
type Namespaces struct{ UTS, IPC, PID, User string }

// own are the namespaces that the sandbox has for itself.
func (c Config) own() []kind {
	var kinds []kind
	if c.Users.Count > 0 {
		kinds = append(kinds, users)
	}
	if c.NetNS != "" || c.KeepNet != nil {
		kinds = append(kinds, uts)
	}
	if !c.HostIPC {
		kinds = append(kinds, ipc)
	}
	if c.SharedPID {
		kinds = append(kinds, pid)
	}
	return kinds
}

// errGone says that there is no pause process.
var errGone = errors.New("the sandbox is gone")

// Sandboxes are the pause processes of one agent. All its methods are safe for concurrent use, those about one sandbox by one
// caller at a time.
type Sandboxes struct {
	settings Settings
	host     host

	rooting sync.Mutex
	root    int // mount namespace of all pause processes, -1 before the first

	mu        sync.Mutex
	held      map[string]*process // by id, of the sandboxes that were started or looked at
	deaths    []string            // ids that Watch has not told yet
	died      chan struct{}       // wakes Watch
	followers sync.WaitGroup
}

// Open makes ready for sandboxes. Those of an earlier agent are found when they are looked at. What this process has
// inherited beside its standard files is passed on to no other from here on.
func Open(settings Settings) (*Sandboxes, error) {
	if err := closeOnExec(); err != nil {
		return nil, err
	}
	host, err := readHost()
	if err != nil {
		return nil, err
	}
	if settings.Log == nil {
		settings.Log = slog.New(slog.DiscardHandler)
	}
	return &Sandboxes{settings: settings, host: host, root: -1, held: map[string]*process{}, died: make(chan struct{}, 1)}, nil
}

// Close lets go of all sandboxes; they run on.
func (s *Sandboxes) Close() error {
	s.mu.Lock()
	for _, p := range s.held {
		p.release()
	}
	s.mu.Unlock()
	s.followers.Wait()
	s.rooting.Lock()
	defer s.rooting.Unlock()
	if s.root < 0 {
		return nil
	}
	root := s.root
	s.root = -1
	return unix.Close(root)
}

// Start starts a sandbox. One that runs is kept; one of another id that is recorded in the same folder is ended first.
func (s *Sandboxes) Start(ctx context.Context, cfg Config) error {
	if running, err := s.Look(cfg.ID, cfg.Dir); err != nil || running {
		return err
	}
	if err := s.Delete(ctx, "", cfg.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.Dir, 0o750); err != nil {
		return fmt.Errorf("start sandbox: %w", err)
	}
	root, err := s.sharedRoot()
	if err != nil {
		return err
	}
	l, err := openLaunch(cfg, root)
	if err != nil {
		return fmt.Errorf("start sandbox: %w", err)
	}
	defer l.close()
	if err := l.fork(); err != nil {
		return fmt.Errorf("start sandbox: %w", err)
	}
	rec := record{ID: cfg.ID, PID: l.pid, BootID: s.host.bootID, PIDNamespace: s.host.pidNamespace, Own: cfg.own()}
	p, err := newProcess(rec, l.pidfd)
	if err != nil {
		l.close() // and so it ends
		_, _ = unix.Wait4(l.pid, nil, 0, nil)
		return fmt.Errorf("start sandbox: %w", err)
	}
	s.mu.Lock()
	s.follow(p)
	s.mu.Unlock()
	if err := s.complete(l, rec); err != nil {
		return errors.Join(fmt.Errorf("start sandbox: %w", err), s.Delete(context.WithoutCancel(ctx), cfg.ID, cfg.Dir))
	}
	return nil
}

// complete records a process that is held, and lets it go.
func (s *Sandboxes) complete(l *launch, rec record) (err error) {
	if rec.StartTime, err = startTime(rec.PID); err != nil {
		return err
	}
	if err := rec.write(l.cfg.Dir); err != nil {
		return err
	}
	if err := l.place(); err != nil {
		return err
	}
	if err := l.letGo(); err != nil {
		return err
	}
	if running, _ := s.Look(rec.ID, l.cfg.Dir); !running {
		return errors.New("the pause process has ended: does the kernel have seccomp?")
	}
	return nil
}

// sharedRoot makes the mount namespace of pause processes once.
func (s *Sandboxes) sharedRoot() (int, error) {
	s.rooting.Lock()
	defer s.rooting.Unlock()
	if s.root >= 0 {
		return s.root, nil
	}
	root, err := makeRoot(s.settings.RunDir)
	if err == nil {
		s.root = root
	}
	return root, err
}

// Look says whether a sandbox runs. An error means that this cannot be told. From then on its death is told.
func (s *Sandboxes) Look(id, dir string) (bool, error) {
	p, err := s.find(id, dir)
	return p != nil && !p.ended(), err
}

// Namespaces are those that containers of a sandbox join. The paths hold good while it runs and this process does: they
// name descriptors of it, so that they never mean another's.
func (s *Sandboxes) Namespaces(id, dir string) (Namespaces, error) {
	var ns Namespaces
	p, err := s.find(id, dir)
	if err == nil && (p == nil || p.ended()) {
		err = errGone
	}
	for of, path := range map[kind]*string{uts: &ns.UTS, ipc: &ns.IPC, pid: &ns.PID, users: &ns.User} {
		if err == nil {
			*path, err = p.namespace(of)
		}
	}
	if err != nil {
		return Namespaces{}, fmt.Errorf("find namespaces of sandbox: %w", err)
	}
	return ns, nil
}

// Recorded is the id of the sandbox that is recorded in a folder, empty where none is.
func (s *Sandboxes) Recorded(dir string) string {
	rec, ok, err := readRecord(dir)
	if err != nil || !ok {
		return ""
	}
	return rec.ID
}

// Delete ends a sandbox, waits until it has, and removes its record. Without an id it is whichever is recorded in the folder;
// without a folder, only what this process has started or looked at is known. One that is gone is no error.
func (s *Sandboxes) Delete(ctx context.Context, id, dir string) error {
	rec, recorded, err := readRecord(dir)
	if err != nil {
		return err
	}
	if id == "" {
		if !recorded {
			return removeRecord(dir)
		}
		id = rec.ID
	}
	p, err := s.find(id, dir)
	if err != nil {
		return err
	}
	if p != nil {
		if err := p.kill(); err != nil {
			return err
		}
		select {
		case <-p.gone:
		case <-ctx.Done():
			return fmt.Errorf("delete sandbox: wait for the end of process %d: %w", p.pid, ctx.Err())
		}
	}
	if recorded && rec.ID != id {
		return nil
	}
	return removeRecord(dir)
}

// Watch calls died for every sandbox that has ended, until ctx does. One that this process has neither started nor looked at
// is not known to it.
func (s *Sandboxes) Watch(ctx context.Context, died func(id string)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.died:
		}
		s.mu.Lock()
		deaths := s.deaths
		s.deaths = nil
		s.mu.Unlock()
		for _, id := range deaths {
			died(id)
		}
	}
}

// find answers the process of a sandbox, nil where there is none. What it answers may have ended.
func (s *Sandboxes) find(id, dir string) (*process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.held[id]; p != nil {
		return p, nil
	}
	rec, recorded, err := readRecord(dir)
	if err != nil || !recorded || rec.ID != id {
		return nil, err
	}
	p, err := s.host.hold(rec)
	if err != nil || p == nil {
		return nil, err
	}
	s.follow(p)
	return p, nil
}

// follow waits for the end of a process, beside. mu is held.
func (s *Sandboxes) follow(p *process) {
	s.held[p.id] = p
	s.followers.Go(func() {
		defer close(p.gone)
		ended := p.wait()
		if ended {
			p.bury()
		}
		s.mu.Lock()
		if s.held[p.id] == p {
			delete(s.held, p.id)
		}
		if ended {
			s.deaths = append(s.deaths, p.id)
		}
		s.mu.Unlock()
		p.release()
		if ended {
			s.settings.Log.Debug("sandbox ended", "sandbox", p.id, "pid", p.pid)
			select {
			case s.died <- struct{}{}:
			default:
			}
		}
	})
}
