package plan

import (
	"testing"
	"time"
)

func TestWhatWasSeenIsPrinted(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	for want, seen := range map[string]Seen{
		"sandbox none/-1": {Sandbox: Sandbox{Attempt: -1}},
		"sandbox running/0 without network attaching, app none/0 busy": {
			Sandbox: Sandbox{State: Running, Attaching: true}, Containers: map[string]Container{"app": {Busy: true}},
		},
		"sandbox running/1, app running/2 started, init exited/0 0 leftover, web exited/3 137 stop since 12:00:00.000 within 30s (liveness failed) back-off 10s from 12:00:01.000": {
			Sandbox: Sandbox{State: Running, Attempt: 1, Attached: true}, Containers: map[string]Container{
				"app": {State: Running, Attempt: 2, Started: true}, "init": {State: Exited, Leftover: true},
				"web": {State: Exited, Attempt: 3, ExitCode: 137, Stop: &Stop{LivenessFailed, noon, 30 * time.Second}, Backoff: 10 * time.Second, FinishedAt: noon.Add(time.Second)},
			},
		},
		"sandbox exited/0 retry 12:00:00.000, app unknown/0 failed: startup failed, ending since 12:00:00.000 (the manifest was removed) restarting": {
			Sandbox: Sandbox{State: Exited, RetryAt: noon}, Containers: map[string]Container{"app": {State: Unknown, Failed: StartupFailed}},
			Ending: &Ending{Since: noon, Reason: "the manifest was removed"}, Restarting: true,
		},
	} {
		if got := seen.String(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	for want, p := range map[string]Plan{
		"nothing": {},
		"stop web (liveness failed), create app (attempt 2); again 12:00:00.000": {
			Actions: []Action{{Verb: Terminate, Container: "web", Why: LivenessFailed}, {Verb: Create, Container: "app", Attempt: 2}}, Wake: noon,
		},
	} {
		if got := p.String(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
