package admit

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Share is so much of a resource, or such a part of all that there is of it. The zero value is nothing.
type Share struct {
	units int64
	part  float64
}

// ParseShare reads a quantity, or a share such as 10%. As with the kubelet, 0% and 100% are nothing.
func ParseShare(text string) (Share, error) {
	if percent, ok := strings.CutSuffix(text, "%"); ok {
		part, err := strconv.ParseFloat(percent, 64)
		if err != nil || math.IsNaN(part) || part < 0 || part > 100 {
			return Share{}, fmt.Errorf("is %q: must be between 0%% and 100%%", text)
		}
		return Share{part: math.Mod(part, 100) / 100}, nil
	}
	q, err := resource.ParseQuantity(text)
	if err != nil || q.Sign() <= 0 {
		return Share{}, fmt.Errorf("is %q: must be a quantity above 0, such as 100Mi, or a share, such as 10%%", text)
	}
	return Share{units: q.Value()}, nil
}

// Of is how much that is of a capacity.
func (s Share) Of(capacity int64) int64 {
	if s.part == 0 {
		return s.units
	}
	return int64(float64(capacity) * s.part)
}
