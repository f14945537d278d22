package agent

import (
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/agent/node"
)

// oneByOne are as many ids as there are Pods, one unit each.
func oneByOne(taken []node.Users) (node.Users, bool) {
	first := uint32(node.UsersUnit)
	for _, other := range taken {
		first = max(first, other.First+other.Count)
	}
	return node.Users{First: first, Count: node.UsersUnit}, true
}

func TestUsersAreOnePodsAlone(t *testing.T) {
	t.Parallel()
	r := newRoster(node.NewObject("node", nil))
	r.takeUsers("old", node.Users{First: node.UsersUnit, Count: node.UsersUnit})
	r.takeUsers("none", node.Users{})
	one, two := r.allotUsers("one", oneByOne), r.allotUsers("two", oneByOne)
	if one.First != 2*node.UsersUnit || two.First != 3*node.UsersUnit || len(r.users) != 3 {
		t.Errorf("they have %v and %v, of %v", one, two, r.users)
	}
	full := func([]node.Users) (node.Users, bool) { return node.Users{}, false }
	if none := r.allotUsers("three", full); none.Count != 0 || len(r.users) != 3 {
		t.Errorf("where there are none it has %v, of %v", none, r.users)
	}
	for _, uid := range []types.UID{"two", "old", "none"} {
		r.freeUID(uid)
	}
	if len(r.users) != 1 || r.users["one"] != one {
		t.Errorf("there are left %v", r.users)
	}
}

// A Pod's ids are on disk before its sandbox is made, are those of its later sandboxes and of the next agent, and free when it has gone.
func TestUsersAreRecordedBeforeTheyAreUsed(t *testing.T) {
	inBubble(t, func(a *agency) {
		var made []node.Users
		a.host.set(func() {
			a.host.sandbox = func(of node.Target) {
				if recorded := a.written().Users; recorded != of.Users {
					a.Errorf("recorded are %v, and it is made with %v", recorded, of.Users)
				}
				made = append(made, of.Users)
			}
		})
		p := a.pod("app")
		p.Spec.HostUsers = ptr.To(false)
		a.wantPod(p)
		a.pass(10)
		a.succeed()
		uid := a.w.inst.Pod.UID
		if held := a.roster.users[uid]; len(made) != 1 || made[0].Count == 0 || held != made[0] {
			a.Errorf("it was made with %v, and the next agent keeps %v", made, held)
		}
		a.host.set(func() { clear(a.host.sandboxes) }) // the pause process has died
		a.w.Wake()
		a.pass(20)
		if len(made) != 2 || made[1] != made[0] {
			a.Errorf("its sandboxes are made with %v", made)
		}
		a.w.want(nil)
		a.pass(60)
		if len(a.roster.users) > 0 {
			a.Errorf("there are left %v", a.roster.users)
		}
	})
}

func TestAPodOfTheHostsUsersHasNone(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.want("1", "app")
		a.pass(5)
		if a.w.inst.Users.Count > 0 || len(a.roster.users) > 0 {
			a.Errorf("it has %v of %v", a.w.inst.Users, a.roster.users)
		}
	})
}
