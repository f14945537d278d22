package agent

import (
	"testing"

	v1 "k8s.io/api/core/v1"
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
	old := &instance{Pod: &v1.Pod{}, Users: node.Users{First: node.UsersUnit, Count: node.UsersUnit}}
	old.Pod.UID = "old"
	r.retain(old)
	r.retain(&instance{Pod: &v1.Pod{}})
	one, two := earmark(r, r.users, "one", oneByOne), earmark(r, r.users, "two", oneByOne)
	if one.First != 2*node.UsersUnit || two.First != 3*node.UsersUnit || len(r.users) != 3 {
		t.Errorf("they have %v and %v, of %v", one, two, r.users)
	}
	full := func([]node.Users) (node.Users, bool) { return node.Users{}, false }
	if none := earmark(r, r.users, "three", full); none.Count != 0 || len(r.users) != 3 {
		t.Errorf("where there are none it has %v, of %v", none, r.users)
	}
	for _, uid := range []types.UID{"two", "old", ""} {
		r.freeUID(uid)
	}
	if len(r.users) != 1 || r.users["one"] != one {
		t.Errorf("there are left %v", r.users)
	}
}

// What is one Pod's alone is on disk before its sandbox is made, is that of its later sandboxes and of the next agent, and free when it has
// gone.
func TestWhatIsEarmarkedIsRecordedBeforeItIsUsed(t *testing.T) {
	users := func(p *v1.Pod) { p.Spec.HostUsers = ptr.To(false) }
	labels := func(o v1.SELinuxOptions) func(p *v1.Pod) {
		return func(p *v1.Pod) { p.Spec.SecurityContext = &v1.PodSecurityContext{SELinuxOptions: &o} }
	}
	type earmarked struct {
		users node.Users
		level string
	}
	for sentence, r := range map[string]struct {
		ask  func(p *v1.Pod)
		want earmarked
	}{
		"ids of users":          {users, earmarked{users: node.Users{First: node.UsersUnit, Count: node.UsersUnit}}},
		"a level":               {labels(v1.SELinuxOptions{Type: "spc_t"}), earmarked{level: "s0:c1,c2"}},
		"the level it asks for": {labels(v1.SELinuxOptions{Level: "s0:c5"}), earmarked{level: "s0:c5"}},
		"nothing":               {func(*v1.Pod) {}, earmarked{}},
	} {
		t.Run(sentence, func(t *testing.T) {
			inBubble(t, func(a *agency) {
				var made []earmarked
				a.host.set(func() {
					a.host.sandbox = func(of node.Target) {
						now := earmarked{of.Users, of.Level}
						if written := a.written(); written.Users != now.users || written.Level != now.level {
							a.Errorf("recorded are %v and %q, and it is made with %v", written.Users, written.Level, now)
						}
						made = append(made, now)
					}
				})
				p := a.pod("app")
				r.ask(p)
				a.wantPod(p)
				a.pass(10)
				a.succeed()
				uid := a.w.inst.Pod.UID
				if held := (earmarked{a.roster.users[uid], a.roster.levels[uid]}); len(made) != 1 || made[0] != r.want || held != r.want {
					a.Errorf("it was made with %v, and the next agent keeps %v; want %v", made, held, r.want)
				}
				a.host.set(func() { clear(a.host.sandboxes) }) // the pause process has died
				a.w.Wake()
				a.pass(20)
				if len(made) != 2 || made[1] != made[0] {
					a.Errorf("its sandboxes are made with %v", made)
				}
				a.w.want(nil)
				a.pass(60)
				if len(a.roster.users) > 0 || len(a.roster.levels) > 0 {
					a.Errorf("there are left %v and %v", a.roster.users, a.roster.levels)
				}
			})
		})
	}
}
