package agent

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/server"
)

const gate = v1.PodConditionType("shop.example/open")

// conditioned is a Pod with conditions, as somebody writes it.
func conditioned(conditions ...v1.PodCondition) *v1.Pod {
	return &v1.Pod{Status: v1.PodStatus{Phase: v1.PodFailed, Conditions: conditions}}
}

func TestAGateMakesAPodReady(t *testing.T) {
	inBubble(t, func(a *agency) {
		put := func(p *v1.Pod, dryRun bool) error {
			return a.w.request(func() error { return a.w.putConditions(p, dryRun) })
		}
		is := func() string {
			var said []string
			for _, c := range a.w.published.Load().Status.Conditions {
				if c.Type == v1.PodReady || c.Type == gate {
					said = append(said, fmt.Sprintf("%s %s %s", c.Type, c.Status, c.Message))
				}
			}
			return strings.Join(said, "; ")
		}
		expect := func(when, want string) {
			t.Helper()
			if got := is(); got != want {
				t.Errorf("%s it is %s, want %s", when, got, want)
			}
		}
		p := a.pod("app")
		p.Spec.ReadinessGates = []v1.PodReadinessGate{{ConditionType: gate}}
		if err := put(conditioned(), false); !errors.Is(err, server.ErrConflict) {
			t.Errorf("before it has begun: %v", err)
		}
		a.wantPod(p)
		a.pass(5)
		const missing = `Ready False corresponding condition of pod readiness gate "shop.example/open" does not exist.`
		expect("at first", missing)
		open := v1.PodCondition{Type: gate, Status: v1.ConditionTrue}
		if err := put(conditioned(open), true); err != nil {
			t.Error(err)
		}
		expect("after a dry run", missing)
		lies := v1.PodCondition{Type: v1.PodReady, Status: v1.ConditionUnknown}
		if err := put(conditioned(lies, open), false); err != nil {
			t.Error(err)
		}
		expect("at once", "Ready True ; shop.example/open True ")
		a.pass(6)
		a.succeed()
		a.wantPod(p)
		a.pass(7)
		expect("for the next agent", "Ready True ; shop.example/open True ")
		open.Status, open.Reason = v1.ConditionFalse, "Closed"
		if err := put(conditioned(open), false); err != nil {
			t.Error(err)
		}
		a.pass(8)
		expect("closed", `Ready False the status of pod readiness gate "shop.example/open" is not "True", but False; shop.example/open False `)
		if phase := a.w.published.Load().Status.Phase; phase != v1.PodRunning {
			t.Errorf("its phase is %s", phase)
		}
		for sentence, c := range map[string]struct {
			pod  *v1.Pod
			want error
		}{
			"a condition that is none": {conditioned(v1.PodCondition{Type: "a b", Status: v1.ConditionTrue}), server.ErrInvalid},
			"another instance": {func() *v1.Pod {
				p := conditioned(open)
				p.UID = "another"
				return p
			}(), server.ErrConflict},
		} {
			if err := put(c.pod, false); !errors.Is(err, c.want) {
				t.Errorf("%s: %v", sentence, err)
			}
		}
	})
}
