package agent

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

func TestAPodIsActiveForAsLongAsItMay(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.pod("app")
		p.Spec.ActiveDeadlineSeconds = ptr.To[int64](30)
		a.wantPod(p)
		a.pass(10)
		a.succeed() // the time goes on over a restart of the agent
		a.wantPod(p)
		a.pass(29)
		a.expect("term")
		a.pass(40)
		a.expect("term", "30 term app 0")
		failed := func() {
			t.Helper()
			s := a.w.published.Load().Status
			if s.Phase != v1.PodFailed || s.Reason != "DeadlineExceeded" || s.Message != "Pod was active on the node longer than the specified deadline" {
				t.Errorf("%s, %s: %s", s.Phase, s.Reason, s.Message)
			}
			a.expect("start", "0 start app 0")
		}
		failed()
		a.succeed()
		a.pass(100)
		failed() // for good
		longer := p.DeepCopy()
		longer.Spec.ActiveDeadlineSeconds = ptr.To[int64](3600)
		a.wish(longer, "2")
		a.pass(110)
		a.expect("start", "0 start app 0", "100 start app 0") // it is wanted anew
	})
}

func TestAPodThatIsDoneExceedsNothing(t *testing.T) {
	inBubble(t, func(a *agency) {
		p := a.pod("app")
		p.Spec.RestartPolicy, p.Spec.ActiveDeadlineSeconds = v1.RestartPolicyNever, ptr.To[int64](30)
		a.wantPod(p)
		a.pass(10)
		a.host.exit("app", 0)
		a.pass(60)
		if s := a.w.published.Load().Status; s.Phase != v1.PodSucceeded {
			t.Errorf("%s, %s", s.Phase, s.Reason)
		}
	})
}
