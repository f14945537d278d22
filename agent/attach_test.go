package agent

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
)

func TestContainersAreMadeBesideTheNetwork(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.attach = func(context.Context) error {
			time.Sleep(3 * time.Second)
			return nil
		}
		p := a.pod("app", "told")
		p.Spec.Containers[1].Env = []v1.EnvVar{{Name: "IP", ValueFrom: &v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{FieldPath: "status.podIP"}}}}
		a.wantPod(p)
		a.pass(2)
		if ips := a.w.published.Load().Status.PodIPs; len(ips) > 0 {
			t.Errorf("it is told to have addresses: %v", ips)
		}
		a.pass(5)
		a.expect("attach", "0 attach 0")
		a.expect("create", "0 create app 0", "3 create told 0")
		a.expect("start", "3 start app 0", "3 start told 0")
	})
}

func TestANetworkThatCannotBeHadIsTriedLessAndLess(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.attach = func(context.Context) error { return errors.New("no address is free") }
		a.want("1", "app")
		a.pass(10)
		a.expect("attach", "0 attach 0", "1 attach 1", "3 attach 2", "7 attach 3")
		if s := a.status("app").State.Waiting; s == nil || s.Reason != "ContainerCreating" {
			t.Errorf("it waits for %v", s)
		}
		if len(a.host.noted("create")) > 1 {
			t.Errorf("containers are made in vain: %v", a.host.noted("create"))
		}
	})
}

// TestASandboxWithoutItsNetworkIsMadeAnew has a network that cannot be had at first: what was made in that sandbox goes with it.
func TestASandboxWithoutItsNetworkIsMadeAnew(t *testing.T) {
	inBubble(t, func(a *agency) {
		broken := true
		a.host.attach = func(context.Context) error {
			if broken {
				broken = false
				time.Sleep(time.Second)
				return errors.New("no address is free")
			}
			return nil
		}
		a.want("1", "app")
		a.pass(5)
		a.expect("sandbox", "0 sandbox 0", "2 sandbox 1")
		a.expect("no sandbox", "2 no sandbox 0")
		a.expect("create", "0 create app 0", "2 create app 0")
		a.expect("start", "2 start app 0")
		if s := a.status("app"); s.RestartCount != 0 || !s.Ready {
			t.Errorf("it is told as %+v", s)
		}
	})
}

// TestTheEndOfAPodWaitsForNoNetwork has one that is still being set up.
func TestTheEndOfAPodWaitsForNoNetwork(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.attach = func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}
		a.want("1", "app")
		a.pass(2)
		a.w.want(nil)
		a.pass(3)
		a.expect("tear down", "2 tear down")
		a.expect("start")
	})
}

// TestAnInstanceThatWasMadeIsMadeAnewAfterARestart has the agent end between the making and the start.
func TestAnInstanceThatWasMadeIsMadeAnewAfterARestart(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.attach = func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}
		a.want("1", "app")
		a.pass(2)
		a.host.set(func() { a.host.attach = nil })
		a.succeed()
		a.pass(5)
		a.expect("create", "0 create app 0", "2 create app 0")
		a.expect("start", "2 start app 0")
		a.expect("sandbox", "0 sandbox 0")
	})
}

// TestARestartWaitsForThePipesOfTheLastButOne has an instance that takes long to clean up.
func TestARestartWaitsForThePipesOfTheLastButOne(t *testing.T) {
	inBubble(t, func(a *agency) {
		slow := true
		a.host.clean = func() {
			if slow {
				slow = false
				time.Sleep(20 * time.Second)
			}
		}
		a.want("1", "app")
		a.pass(1)
		a.host.exit("app", 1) // restarts at once, and is cleaned up until 21
		a.pass(2)
		a.host.exit("app", 1) // restarts after 10 seconds of back-off, but for that
		a.pass(30)
		a.expect("create", "0 create app 0", "1 create app 1", "21 create app 2")
		a.expect("start", "0 start app 0", "1 start app 1", "21 start app 2")
		if got := a.written().Containers["app"]; got.Uncleaned {
			t.Error("an instance is left")
		}
	})
}

// TestAnUncleanedInstanceIsCleanedByTheNextAgent has an agent end before it has tidied up.
func TestAnUncleanedInstanceIsCleanedByTheNextAgent(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.want("1", "app")
		a.pass(1)
		inst := a.w
		a.host.exit("app", 1)
		a.pass(2)
		a.dismiss()
		left := a.written()
		left.Containers["app"].Uncleaned = true
		first := left.target("app").Of(0)
		a.host.set(func() { a.host.tasks[first.ID()] = &task{name: "app"} })
		a.employ(left)
		a.w.want(wishFor(inst.wanted.Pod.Pod, inst.wanted.Pod.Revision))
		a.pass(5)
		if a.host.tasks[first.ID()] != nil || a.written().Containers["app"].Uncleaned {
			t.Error("it is left")
		}
	})
}

// TestNothingIsTidiedOfAPodThatIsTornDown has what failed before forgiven amid the end.
func TestNothingIsTidiedOfAPodThatIsTornDown(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.want("1", "app")
		a.pass(1)
		a.host.exit("app", 1)
		a.pass(2)
		a.dismiss()
		left := a.written()
		left.Containers["app"].Uncleaned = true
		a.host.set(func() {
			a.host.tear = func() { time.Sleep(2 * time.Second) }
			a.host.clean = func() { time.Sleep(5 * time.Second) }
		})
		a.employ(left)
		a.pass(3)
		a.w.want(nil)
		a.pass(8) // it was begun at 2, given up at 3, and has failed at 7
		a.w.Forgive(forgiveAll)
		a.pass(30)
		a.expect("tidy", "1 tidy app 0", "2 tidy app 0")
		a.expect("tear down", "7 tear down")
		if records, _ := os.ReadDir(a.dir); len(records) > 0 {
			t.Errorf("%d records are left", len(records))
		}
	})
}

// TestOnePodAtATime has two Pods that start and one turn: the first is finished before the second begins.
func TestOnePodAtATime(t *testing.T) {
	inBubble(t, func(a *agency) {
		turns := newTurns(1)
		a.w.turn.turns = turns
		a.host.attach = func(context.Context) error {
			time.Sleep(handOn / 4)
			return nil
		}
		a.want("1", "app")
		a.pass(0.1)
		other := a.another("other")
		other.turn.turns = turns
		p := a.pod("late")
		p.Name = "other"
		other.want(wishFor(p, "1"))
		a.pass(5)
		a.expect("start", "0.25 start app 0", "0.5 start late 0")
	})
}

// TestWhatWasMadeAndNeverStartedHasNotRun has a container be made while its network fails, and a look meet the removal of both: what
// containerd says of the container then is no exit, and its Pod runs once the network is there.
func TestWhatWasMadeAndNeverStartedHasNotRun(t *testing.T) {
	for sentence, killed := range map[string]bool{"the agent lives": false, "and is killed amid the removal": true} {
		t.Run(sentence, func(t *testing.T) {
			inBubble(t, func(a *agency) {
				fail, removing := true, make(chan struct{})
				a.host.attach = func(context.Context) error {
					time.Sleep(time.Second) // the container is made
					if held(a.host, &fail) {
						return errors.New("no address is free")
					}
					return nil
				}
				a.host.undoing = func(ctx context.Context) error {
					a.host.set(func() { fail, a.host.undoing = false, nil })
					close(removing)
					a.w.Wake()
					select {
					case <-ctx.Done():
					case <-time.After(2 * time.Second):
					}
					return ctx.Err()
				}
				p := a.pod("app")
				p.Spec.RestartPolicy = v1.RestartPolicyNever
				a.wantPod(p)
				<-removing
				if killed {
					a.succeed()
					a.wantPod(p)
				}
				time.Sleep(time.Minute)
				if got := a.host.noted("start"); len(got) != 1 || a.status("app").State.Running == nil {
					t.Errorf("started %q; %+v", got, a.status("app"))
				}
			})
		})
	}
}

// TestWhatEndsBeforeItIsStartedHasNotRun has a container end, by no deed of the agent, while its network is waited for.
func TestWhatEndsBeforeItIsStartedHasNotRun(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.host.attach = func(context.Context) error { time.Sleep(5 * time.Second); return nil }
		p := a.pod("app")
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		a.wantPod(p)
		a.pass(2)
		a.host.set(func() {
			for _, k := range a.host.tasks {
				k.made, k.code, k.exitedAt = false, 137, time.Now()
			}
		})
		a.w.Wake()
		a.pass(30)
		if s := a.status("app"); s.State.Running == nil || s.RestartCount != 0 {
			t.Errorf("%+v", s)
		}
		a.expect("start", "5 start app 0")
	})
}
