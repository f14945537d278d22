package cgroups

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

const (
	recountEvery  = 5 * time.Minute // how long a sum is believed that nobody seems to have changed
	classPatience = time.Second     // how long another agent may take to write a sum
	classPause    = 5 * time.Millisecond
)

// ledger is what the Pods of a class have, so that a Pod more or less costs no walk over all of them. Agents that share a
// class have one each: what another one did shows in the sum, which is then not the one that was written here, and the
// kernel is asked again.
type ledger struct {
	pods    map[string]uint64 // shares, by the Pod's cgroup
	sum     uint64
	written uint64    // shares or weight of the class
	counted time.Time // zero before the first count
}

// set notes what a Pod has, 0 for one that is gone.
func (l *ledger) set(pod string, shares uint64) {
	l.sum += shares - l.pods[pod]
	if shares == 0 {
		delete(l.pods, pod)
		return
	}
	l.pods[pod] = shares
}

// balance gives kubepods the shares of all CPUs, BestEffort the smallest and Burstable the sum of its Pods', of which this
// one has come, changed or gone.
func (t *Tree) balance(driver Driver, pod *v1.Pod) error {
	t.balancing.Lock()
	defer t.balancing.Unlock()
	if err := t.shareNode(driver); err != nil {
		return err
	}
	if err := t.writeShares(driver, t.classPath(driver, v1.PodQOSBestEffort), minShares); err != nil {
		return err
	}
	class := t.classPath(driver, v1.PodQOSBurstable)
	unlock, err := lockClass(filepath.Join(t.cpuMount(), class))
	if err != nil {
		delete(t.ledgers, class)
		return ignoreGone(err)
	}
	defer unlock()
	l, err := t.audit(class, path.Base(t.podPath(driver, v1.PodQOSBurstable, pod)))
	if err != nil {
		return ignoreGone(err)
	}
	sum := min(max(l.sum, minShares), maxShares)
	if err := t.writeShares(driver, class, sum); err != nil {
		return err
	}
	l.written = t.cpuValue(sum)
	return ignoreGone(t.protect(driver))
}

// lockClass has one agent at a time count and write the shares of a class. One that does not let go in a second is not
// waited for any longer: the worst that comes of it is a sum that is wrong until the next one.
func lockClass(folder string) (unlock func(), err error) {
	f, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(classPatience); ; time.Sleep(classPause) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || errors.Is(err, unix.EWOULDBLOCK) && time.Now().After(deadline) {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", folder, err), f.Close())
		}
	}
}

// audit brings the ledger of a class up to date: by the one Pod that has changed or, where it cannot be right or was not
// checked for long, by all Pods.
func (t *Tree) audit(class, pod string) (*ledger, error) {
	l := t.ledgers[class]
	now, err := readNumber(t.cpuFile(class))
	if err != nil {
		return nil, err
	}
	changed := []string{pod}
	if l == nil || now != l.written || time.Since(l.counted) > recountEvery {
		l = &ledger{pods: map[string]uint64{}, counted: time.Now()}
		if changed, err = folders(filepath.Join(t.cpuMount(), class)); err != nil {
			return nil, err
		}
	}
	for _, pod := range changed {
		shares, err := t.readShares(path.Join(class, pod))
		if err := ignoreGone(err); err != nil {
			return nil, err
		}
		l.set(pod, shares)
	}
	if t.ledgers == nil {
		t.ledgers = map[string]*ledger{}
	}
	t.ledgers[class] = l
	return l, nil
}

// shareNode raises kubepods from the kernel's default of one CPU to all of them. Any other value is someone's choice.
func (t *Tree) shareNode(driver Driver) error {
	root := t.classPath(driver, v1.PodQOSGuaranteed)
	shares, err := t.readShares(root)
	if err != nil || shares != 1024 {
		return ignoreGone(err)
	}
	cpus, err := CPUs()
	if err != nil {
		return err
	}
	return t.writeShares(driver, root, Shares(int64(cpus)*1000))
}

// cpuFile is the file that holds a cgroup's shares or weight.
func (t *Tree) cpuFile(group string) string {
	name := "cpu.shares"
	if t.cfg.Unified {
		name = "cpu.weight"
	}
	return filepath.Join(t.cpuMount(), group, name)
}

// readShares reads a cgroup's shares; on v2, the largest that have its weight (the default 100 is 1024).
func (t *Tree) readShares(group string) (uint64, error) {
	n, err := readNumber(t.cpuFile(group))
	if err != nil || !t.cfg.Unified {
		return n, err
	}
	return sharesOf(n), nil
}

// writeShares writes a cgroup's shares or weight, unless it has them, or is gone.
func (t *Tree) writeShares(driver Driver, group string, shares uint64) error {
	value := t.cpuValue(shares)
	now, err := readNumber(t.cpuFile(group))
	if err != nil || now == value {
		return ignoreGone(err)
	}
	if driver == Systemd {
		return t.systemd.weigh(path.Base(group), value)
	}
	return ignoreGone(os.WriteFile(t.cpuFile(group), strconv.AppendUint(nil, value, 10), 0o644))
}

// cpuValue is what is written for these shares.
func (t *Tree) cpuValue(shares uint64) uint64 {
	if t.cfg.Unified {
		return Weight(shares)
	}
	return shares
}
