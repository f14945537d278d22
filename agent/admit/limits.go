package admit

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	resourcehelper "k8s.io/component-helpers/resource"
)

// Limits are what the LimitRanges of one namespace say. The arithmetic, its order and its words are those of the API server's
// admission plugin LimitRanger (kubernetes/kubernetes plugin/pkg/admission/limitranger), which a test holds them to.
type Limits []limitRange

// limitRange is one LimitRange.
type limitRange struct {
	requests, limits []amount // defaults of containers
	items            []limitItem
}

// limitItem is what one LimitRange says of one type of object.
type limitItem struct {
	of              v1.LimitType
	min, max, ratio []amount
}

// amount is of one resource.
type amount struct {
	name     v1.ResourceName
	quantity resource.Quantity
}

// amountsOf are those of a list, by name.
func amountsOf(list v1.ResourceList) []amount {
	all := make([]amount, 0, len(list))
	for _, name := range slices.Sorted(maps.Keys(list)) {
		all = append(all, amount{name, list[name]})
	}
	return all
}

// NewLimits are those of LimitRanges, which have Kubernetes' defaults. Where several are broken, the first by name says so.
func NewLimits(ranges []*v1.LimitRange) Limits {
	sorted := slices.SortedFunc(slices.Values(ranges), func(a, b *v1.LimitRange) int { return strings.Compare(a.Name, b.Name) })
	all := make(Limits, 0, len(sorted))
	for _, r := range sorted {
		var limit limitRange
		requests, limits := v1.ResourceList{}, v1.ResourceList{}
		for i := range r.Spec.Limits {
			item := &r.Spec.Limits[i]
			if item.Type == v1.LimitTypeContainer {
				maps.Copy(requests, item.DefaultRequest)
				maps.Copy(limits, item.Default)
			}
			limit.items = append(limit.items, limitItem{item.Type, amountsOf(item.Min), amountsOf(item.Max), amountsOf(item.MaxLimitRequestRatio)})
		}
		limit.requests, limit.limits = amountsOf(requests), amountsOf(limits)
		all = append(all, limit)
	}
	return all
}

// LimitRangerAnnotation is where a Pod tells which of its requests and limits are defaults of LimitRanges.
const LimitRangerAnnotation = "kubernetes.io/limit-ranger"

// Fill gives the containers of a Pod the requests and limits that they do not have, and are the default. It answers the Pod itself
// where that is none, else another one, which shares with it what is the same.
func (l Limits) Fill(pod *v1.Pod) *v1.Pod {
	for _, r := range l {
		var given []string
		if len(r.requests)+len(r.limits) == 0 {
			continue
		}
		containers, told := r.fill(pod.Spec.Containers, "container")
		given = append(given, told...)
		inits, told := r.fill(pod.Spec.InitContainers, "init container")
		if given = append(given, told...); len(given) == 0 {
			continue
		}
		filled := *pod
		filled.Spec.Containers, filled.Spec.InitContainers = containers, inits
		filled.Annotations = maps.Clone(pod.Annotations)
		if filled.Annotations == nil {
			filled.Annotations = map[string]string{}
		}
		filled.Annotations[LimitRangerAnnotation] = "LimitRanger plugin set: " + strings.Join(given, "; ")
		pod = &filled
	}
	return pod
}

// fill answers containers with the defaults, and tells which they were given.
func (r *limitRange) fill(containers []v1.Container, kind string) (filled []v1.Container, given []string) {
	filled = containers
	for i := range containers {
		resources := containers[i].Resources
		limits, newLimits := with(resources.Limits, r.limits)
		requests, newRequests := with(resources.Requests, r.requests)
		if len(newLimits)+len(newRequests) == 0 {
			continue
		}
		if len(given) == 0 {
			filled = slices.Clone(containers)
		}
		filled[i].Resources.Limits, filled[i].Resources.Requests = limits, requests
		if len(newRequests) > 0 {
			given = append(given, fmt.Sprintf("%s request for %s %s", strings.Join(newRequests, ", "), kind, containers[i].Name))
		}
		if len(newLimits) > 0 {
			given = append(given, fmt.Sprintf("%s limit for %s %s", strings.Join(newLimits, ", "), kind, containers[i].Name))
		}
	}
	return filled, given
}

// with is a list with what of the defaults it does not have, and the names of these.
func with(list v1.ResourceList, defaults []amount) (out v1.ResourceList, names []string) {
	out = list
	for _, d := range defaults {
		if _, has := list[d.name]; has {
			continue
		}
		if names == nil {
			if out = maps.Clone(list); out == nil {
				out = v1.ResourceList{}
			}
		}
		out[d.name] = d.quantity
		names = append(names, string(d.name))
	}
	return out, names
}

// Check says which limits a Pod breaks.
func (l Limits) Check(pod *v1.Pod) error {
	var whole *use
	for _, r := range l {
		var errs []error
		for i := range r.items {
			switch item := &r.items[i]; item.of {
			case v1.LimitTypeContainer:
				for j := range pod.Spec.Containers {
					errs = item.check(&use{pod.Spec.Containers[j].Resources.Requests, pod.Spec.Containers[j].Resources.Limits}, errs)
				}
				for j := range pod.Spec.InitContainers {
					errs = item.check(&use{pod.Spec.InitContainers[j].Resources.Requests, pod.Spec.InitContainers[j].Resources.Limits}, errs)
				}
			case v1.LimitTypePod:
				if whole == nil {
					options := resourcehelper.PodResourcesOptions{ExcludeOverhead: true}
					whole = &use{resourcehelper.PodRequests(pod, options), resourcehelper.PodLimits(pod, options)}
				}
				errs = item.check(whole, errs)
			}
		}
		if len(errs) > 0 {
			return utilerrors.NewAggregate(errs)
		}
	}
	return nil
}

// CheckClaim says which limits a claim breaks: of a claim only requests are looked at.
func (l Limits) CheckClaim(claim *v1.PersistentVolumeClaim) error {
	of := &use{requests: claim.Spec.Resources.Requests}
	for _, r := range l {
		var errs []error
		for _, item := range r.items {
			if item.of != v1.LimitTypePersistentVolumeClaim {
				continue
			}
			for _, a := range item.min {
				errs = keep(errs, item.tooLittle(a, of))
			}
			for _, a := range item.max {
				errs = keep(errs, item.claimsTooMuch(a, of))
			}
		}
		if len(errs) > 0 {
			return utilerrors.NewAggregate(errs)
		}
	}
	return nil
}

// use is what a container, a Pod or a claim has of requests and limits.
type use struct{ requests, limits v1.ResourceList }

func (i *limitItem) check(u *use, errs []error) []error {
	for _, a := range i.min {
		errs = keep(errs, i.tooLittle(a, u))
	}
	for _, a := range i.max {
		errs = keep(errs, i.tooMuch(a, u))
	}
	for _, a := range i.ratio {
		errs = keep(errs, i.tooUneven(a, u))
	}
	return errs
}

func keep(errs []error, err error) []error {
	if err == nil {
		return errs
	}
	return append(errs, err)
}

func (i *limitItem) tooLittle(said amount, u *use) error {
	const words = "minimum %s usage per %s is %s"
	request, hasRequest := u.requests[said.name]
	limit, hasLimit := u.limits[said.name]
	figures := figuresOf(request, limit, said.quantity)
	switch {
	case !hasRequest:
		return fmt.Errorf(words+".  No request is specified", said.name, i.of, said.quantity.String())
	case figures[0] < figures[2]:
		return fmt.Errorf(words+", but request is %s", said.name, i.of, said.quantity.String(), request.String())
	case hasLimit && figures[1] < figures[2]:
		return fmt.Errorf(words+", but limit is %s", said.name, i.of, said.quantity.String(), limit.String())
	}
	return nil
}

func (i *limitItem) tooMuch(said amount, u *use) error {
	const words = "maximum %s usage per %s is %s"
	request, hasRequest := u.requests[said.name]
	limit, hasLimit := u.limits[said.name]
	figures := figuresOf(request, limit, said.quantity)
	switch {
	case !hasLimit:
		return fmt.Errorf(words+".  No limit is specified", said.name, i.of, said.quantity.String())
	case figures[1] > figures[2]:
		return fmt.Errorf(words+", but limit is %s", said.name, i.of, said.quantity.String(), limit.String())
	case hasRequest && figures[0] > figures[2]:
		return fmt.Errorf(words+", but request is %s", said.name, i.of, said.quantity.String(), request.String())
	}
	return nil
}

func (i *limitItem) claimsTooMuch(said amount, u *use) error {
	const words = "maximum %s usage per %s is %s"
	request, has := u.requests[said.name]
	figures := figuresOf(request, resource.Quantity{}, said.quantity)
	switch {
	case !has:
		return fmt.Errorf(words+".  No request is specified", said.name, i.of, said.quantity.String())
	case figures[0] > figures[2]:
		return fmt.Errorf(words+", but request is %s", said.name, i.of, said.quantity.String(), request.String())
	}
	return nil
}

func (i *limitItem) tooUneven(said amount, u *use) error {
	const words = "%s max limit to request ratio per %s is %s, but "
	figures := figuresOf(u.requests[said.name], u.limits[said.name], said.quantity)
	if figures[0] == 0 {
		return fmt.Errorf(words+"no request is specified or request is 0", said.name, i.of, said.quantity.String())
	}
	if figures[1] == 0 {
		return fmt.Errorf(words+"no limit is specified or limit is 0", said.name, i.of, said.quantity.String())
	}
	ratio := float64(figures[1]) / float64(figures[0])
	allowed, has := float64(said.quantity.Value()), ratio
	if said.quantity.Value() <= resource.MaxMilliValue { // a ratio such as 1500m
		allowed, has = float64(said.quantity.MilliValue()), ratio*1000
	}
	if has > allowed {
		return fmt.Errorf(words+"provided ratio is %f", said.name, i.of, said.quantity.String(), ratio)
	}
	return nil
}

// figuresOf are a request, a limit and what is said of them, in thousandths where all of them can be counted so.
func figuresOf(request, limit, said resource.Quantity) [3]int64 {
	whole := [3]int64{request.Value(), limit.Value(), said.Value()}
	if max(whole[0], whole[1], whole[2]) > resource.MaxMilliValue {
		return whole
	}
	return [3]int64{request.MilliValue(), limit.MilliValue(), said.MilliValue()}
}
