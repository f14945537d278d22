package nodetest

import (
	"fmt"
	"strconv"
	"testing"
)

// seconds is a moment that systemd took down of the service, since the boot.
func (h *host) seconds(property string) float64 {
	h.t.Helper()
	micro, err := strconv.ParseInt(h.property(property), 10, 64)
	if err != nil || micro == 0 {
		h.t.Fatalf("%s: %d, %v", property, micro, err)
	}
	return float64(micro) / 1e6
}

// TestStartIsMeasuredWithNoPodAndWithTen prints how long the agent takes from its start to READY. Ten Pods that run are
// Ready from the first answer on, and run on.
func TestStartIsMeasuredWithNoPodAndWithTen(t *testing.T) {
	h := open(t)
	h.clear()
	measure := func(pods int) {
		for range 3 {
			h.systemctl("restart", "podkeeper")
			t.Logf("figure: READY after start with %d Pods: %.2f s", pods, h.seconds("ActiveEnterTimestampMonotonic")-h.seconds("ExecMainStartTimestampMonotonic"))
		}
	}
	measure(0)
	names := h.manyPods(10)
	before := h.instances()
	measure(len(names))
	pods, err := h.pods()
	if err != nil {
		t.Fatal(err)
	}
	if err := allReady(pods, names); err != nil {
		t.Error(fmt.Errorf("the first answer: %w", err))
	}
	h.undisturbed(before)
}
