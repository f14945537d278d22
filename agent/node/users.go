package node

import (
	"bufio"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/runtime"
)

// Users are ids of the host that are those of one Pod's user namespace, from 0 in there on: of users, and of groups. The zero value is
// no such namespace.
type Users struct {
	First uint32 `json:"first"`
	Count uint32 `json:"count"`
}

// UsersUnit is what First and Count are multiples of (KubeletConfiguration.userNamespaces.idsPerPod). The first so many ids are the host's.
const UsersUnit = 1 << 16

// lastUsers is where ids end that a Pod may have, as far as groups may ping (see networkSysctls); and MostUsers how many one may have.
const (
	lastUsers = 1 << 31
	MostUsers = lastUsers - UsersUnit
)

// HasUsers says whether a Pod has a user namespace of its own.
func HasUsers(pod *v1.Pod) bool { return pod.Spec.HostUsers != nil && !*pod.Spec.HostUsers }

// FreeUsers are ids that are neither among those that are taken nor, by /etc/subuid and /etc/subgid, somebody's on the host. false is that
// there are none left. Each root directory begins to look elsewhere, so that two agents on one host hardly ever choose the same.
func (n *Node) FreeUsers(taken []Users) (Users, bool) {
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		content, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			n.Log.Warn("ids of users of the host are not known", "error", err)
		}
		taken = append(taken, subordinate(string(content))...)
	}
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(n.Identity))
	begin := hash.Sum32() % (lastUsers / UsersUnit) * UsersUnit
	return freeUsers(begin, n.IDsPerPod, taken)
}

// freeUsers are the first count ids from begin on, and then from the lowest on, of which none is taken. All are multiples of UsersUnit
// but those that are taken.
func freeUsers(begin, count uint32, taken []Users) (Users, bool) {
	for _, first := range []uint64{max(uint64(begin), UsersUnit), UsersUnit} {
		for free := false; !free && first+uint64(count) <= lastUsers; {
			free = true
			for _, other := range taken {
				end := uint64(other.First) + uint64(other.Count)
				if first < end && uint64(other.First) < first+uint64(count) {
					first, free = (end+UsersUnit-1)/UsersUnit*UsersUnit, false
				}
			}
			if free {
				return Users{First: uint32(first), Count: count}, true
			}
		}
	}
	return Users{}, false
}

// subordinate reads what of ids is somebody's: lines of a name, the first id, and how many there are (subuid(5)). Others are nothing.
func subordinate(content string) (taken []Users) {
	for lines := bufio.NewScanner(strings.NewReader(content)); lines.Scan(); {
		fields := strings.Split(lines.Text(), ":")
		if len(fields) != 3 {
			continue
		}
		first, err := strconv.ParseUint(fields[1], 10, 32)
		count, countErr := strconv.ParseUint(fields[2], 10, 32)
		if err == nil && countErr == nil {
			taken = append(taken, Users{uint32(first), uint32(count)})
		}
	}
	return taken
}

// checkUsers says why a Pod's user namespace cannot be made.
func (n *Node) checkUsers(t Target) error {
	if !HasUsers(t.Pod) {
		return nil
	}
	if err := n.Runtime.CheckUsers(t.handler()); err != nil {
		return err
	}
	if t.Users.Count == 0 {
		return fmt.Errorf("no %d ids of the host are left for a user namespace: fewer Pods with `hostUsers: false`, or a lower userNamespaces.idsPerPod",
			n.IDsPerPod)
	}
	return nil
}

// mapFault names the volume that cannot be mapped into a Pod's user namespace. What else it is handed it answers as it is.
func mapFault(c *v1.Container, err error) error {
	var failed *runtime.MapError
	if !errors.As(err, &failed) {
		return err
	}
	for _, m := range c.VolumeMounts {
		if filepath.Join("/", m.MountPath) == failed.Destination {
			err = fmt.Errorf("mount volume %q at %s: map into user namespace: %w", m.Name, m.MountPath, failed.Err)
		}
	}
	return &Fault{CreateContainerError, err}
}
