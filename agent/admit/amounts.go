package admit

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
)

// Amounts are of resources: of cpu thousandths, of all others units.
type Amounts map[v1.ResourceName]int64

// Asks are what a Pod takes of a node: the place of one Pod, and the sum of its requests, by Kubernetes' rule for init containers,
// sidecars and overhead.
func Asks(pod *v1.Pod) Amounts {
	asks := Of(resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{}))
	asks[v1.ResourcePods] = 1
	return asks
}

// Of are the amounts of a list, without those that are none.
func Of(list v1.ResourceList) Amounts {
	all := make(Amounts, len(list)+1)
	for name, q := range list {
		amount := q.Value()
		if name == v1.ResourceCPU {
			amount = q.MilliValue()
		}
		if amount > 0 {
			all[name] = amount
		}
	}
	return all
}

// Add adds others to the amounts. What is too much to be counted is the most that can be.
func (a Amounts) Add(others Amounts) {
	for name, more := range others {
		if a[name] > math.MaxInt64-more {
			a[name] = math.MaxInt64
			continue
		}
		a[name] += more
	}
}

// Lacks says what a node, of which something is taken, has too little of for who asks: "" where it has enough. The words are
// the scheduler's (kubernetes/kubernetes pkg/scheduler/framework/plugins/noderesources/fit.go), in its order, and behind them are
// the figures. A node of which nothing is known (nil) has enough of everything.
func Lacks(has, taken, asked Amounts) string {
	if has == nil {
		return ""
	}
	var reasons, figures []string
	for name, want := range asked {
		if want <= has[name]-taken[name] {
			continue
		}
		if name == v1.ResourcePods {
			reasons = append(reasons, "1 Too many pods")
		} else {
			reasons = append(reasons, fmt.Sprintf("1 Insufficient %s", name))
		}
	}
	if len(reasons) == 0 {
		return ""
	}
	for _, name := range slices.Sorted(maps.Keys(asked)) {
		if asked[name] > has[name]-taken[name] {
			figures = append(figures, fmt.Sprintf("of %s it asks for %s, and %s of %s are taken",
				name, written(name, asked[name]), written(name, taken[name]), written(name, has[name])))
		}
	}
	slices.Sort(reasons)
	told := strings.Join(figures, "; ")
	return strings.Join(reasons, ", ") + ". " + strings.ToUpper(told[:1]) + told[1:]
}

// written is an amount as people write it.
func written(name v1.ResourceName, amount int64) string {
	switch {
	case name == v1.ResourceCPU:
		return resource.NewMilliQuantity(amount, resource.DecimalSI).String()
	case name == v1.ResourceMemory, name == v1.ResourceEphemeralStorage, strings.HasPrefix(string(name), v1.ResourceHugePagesPrefix):
		return resource.NewQuantity(amount, resource.BinarySI).String()
	}
	return resource.NewQuantity(amount, resource.DecimalSI).String()
}
