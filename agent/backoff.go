package agent

import (
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/podkeeper/podkeeper/agent/plan"
	"github.com/podkeeper/podkeeper/manifests"
)

// backoffOf bounds the wait between restarts of a Pod's containers: by its own annotation, else as the agent was told.
func (s *surroundings) backoffOf(pod *v1.Pod) plan.Backoff {
	if own, err := time.ParseDuration(pod.Annotations[manifests.MaxRestartPeriod]); err == nil && own > 0 {
		return plan.Backoff{Max: own}
	}
	return plan.Backoff{Max: s.backoff}
}
