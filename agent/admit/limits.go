package admit

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	resourcehelper "k8s.io/component-helpers/resource"
)

// Limits are what the LimitRanges of one namespace say. The arithmetic, its order and its words are those of the API server's
// admission plugin LimitRanger (kubernetes/kubernetes plugin/pkg/admission/limitranger), which a test holds them to.
type Limits struct {
	ranges           [][]limitItem // of each, sorted by name
	tight            []limitItem   // of each type, the tightest of what all of them say
	requests, limits []gift        // defaults of containers
}

// gift is a default, and which range gives it: the first that has one.
type gift struct {
	amount
	from int
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
	var l Limits
	sorted := slices.SortedFunc(slices.Values(ranges), func(a, b *v1.LimitRange) int { return strings.Compare(a.Name, b.Name) })
	for _, r := range sorted {
		var items []limitItem
		requests, limits := v1.ResourceList{}, v1.ResourceList{}
		for i := range r.Spec.Limits {
			item := &r.Spec.Limits[i]
			if item.Type == v1.LimitTypeContainer {
				maps.Copy(requests, item.DefaultRequest)
				maps.Copy(limits, item.Default)
			}
			items = append(items, limitItem{item.Type, amountsOf(item.Min), amountsOf(item.Max), amountsOf(item.MaxLimitRequestRatio)})
			l.tighten(item)
		}
		l.requests, l.limits = given(l.requests, requests, len(l.ranges)), given(l.limits, limits, len(l.ranges))
		l.ranges = append(l.ranges, items)
	}
	return l
}

// given are defaults with those of one more range.
func given(all []gift, list v1.ResourceList, from int) []gift {
	for _, a := range amountsOf(list) {
		if !slices.ContainsFunc(all, func(g gift) bool { return g.name == a.name }) {
			all = append(all, gift{a, from})
		}
	}
	slices.SortFunc(all, func(a, b gift) int { return strings.Compare(string(a.name), string(b.name)) })
	return all
}

// tighten has the tightest of what is said hold. What holds to that holds to all of it.
func (l *Limits) tighten(item *v1.LimitRangeItem) {
	i := slices.IndexFunc(l.tight, func(of limitItem) bool { return of.of == item.Type })
	if i < 0 {
		i, l.tight = len(l.tight), append(l.tight, limitItem{of: item.Type})
	}
	tightest := func(all []amount, list v1.ResourceList, sign int) []amount {
		for _, a := range amountsOf(list) {
			j := slices.IndexFunc(all, func(of amount) bool { return of.name == a.name })
			switch {
			case j < 0:
				all = append(all, a)
			case a.quantity.Cmp(all[j].quantity) == sign:
				all[j] = a
			}
		}
		return all
	}
	t := &l.tight[i]
	t.min, t.max, t.ratio = tightest(t.min, item.Min, 1), tightest(t.max, item.Max, -1), tightest(t.ratio, item.MaxLimitRequestRatio, -1)
}

// Empty says whether nothing is limited, nor given.
func (l Limits) Empty() bool { return len(l.ranges) == 0 }

// LimitRangerAnnotation is where a Pod tells which of its requests and limits are defaults of LimitRanges.
const LimitRangerAnnotation = "kubernetes.io/limit-ranger"

// Fill gives the containers of a Pod the requests and limits that they do not have, and are the default. It answers the Pod itself
// where that is none, else another one, which shares with it what is the same. Its annotation tells of the last range that gave
// something, as Kubernetes has it.
func (l Limits) Fill(pod *v1.Pod) *v1.Pod {
	containers, last := l.fill(pod.Spec.Containers, -1)
	inits, last := l.fill(pod.Spec.InitContainers, last)
	if last < 0 {
		return pod
	}
	told := append(l.tell(pod.Spec.Containers, "container", last), l.tell(pod.Spec.InitContainers, "init container", last)...)
	filled := *pod
	filled.Spec.Containers, filled.Spec.InitContainers, filled.Annotations = containers, inits, maps.Clone(pod.Annotations)
	metav1.SetMetaDataAnnotation(&filled.ObjectMeta, LimitRangerAnnotation, "LimitRanger plugin set: "+strings.Join(told, "; "))
	return &filled
}

// fill answers containers with the defaults, and the last range that gave one, or one before.
func (l Limits) fill(containers []v1.Container, before int) (filled []v1.Container, last int) {
	filled, last = containers, before
	own := false
	for i := range containers {
		limits, fromLimits := with(containers[i].Resources.Limits, l.limits)
		requests, fromRequests := with(containers[i].Resources.Requests, l.requests)
		from := max(fromLimits, fromRequests)
		if from < 0 {
			continue
		}
		if !own {
			filled, own = slices.Clone(containers), true
		}
		filled[i].Resources.Limits, filled[i].Resources.Requests = limits, requests
		last = max(last, from)
	}
	return filled, last
}

// with is a list with what of the defaults it does not have, and the last range that they are from, -1 for none.
func with(list v1.ResourceList, defaults []gift) (out v1.ResourceList, last int) {
	out, last = list, -1
	for _, d := range defaults {
		if _, has := list[d.name]; has {
			continue
		}
		if last < 0 {
			if out = maps.Clone(list); out == nil {
				out = v1.ResourceList{}
			}
		}
		out[d.name] = d.quantity
		last = max(last, d.from)
	}
	return out, last
}

// tell says what a range has given to containers that were without.
func (l Limits) tell(containers []v1.Container, kind string, from int) (told []string) {
	lacking := func(list v1.ResourceList, defaults []gift) string {
		var names []string
		for _, d := range defaults {
			if _, has := list[d.name]; !has && d.from == from {
				names = append(names, string(d.name))
			}
		}
		return strings.Join(names, ", ")
	}
	for _, c := range containers {
		if names := lacking(c.Resources.Requests, l.requests); names != "" {
			told = append(told, fmt.Sprintf("%s request for %s %s", names, kind, c.Name))
		}
		if names := lacking(c.Resources.Limits, l.limits); names != "" {
			told = append(told, fmt.Sprintf("%s limit for %s %s", names, kind, c.Name))
		}
	}
	return told
}

// Check says which limits a Pod breaks.
func (l Limits) Check(pod *v1.Pod) error {
	whole := wholeOf(pod)
	if len(checkPod(l.tight, pod, whole)) == 0 {
		return nil
	}
	for _, items := range l.ranges {
		if errs := checkPod(items, pod, whole); len(errs) > 0 {
			return utilerrors.NewAggregate(errs)
		}
	}
	return nil
}

// wholeOf answers what a Pod as a whole has, which is worked out once.
func wholeOf(pod *v1.Pod) func() *use {
	var whole *use
	return func() *use {
		if whole == nil {
			options := resourcehelper.PodResourcesOptions{ExcludeOverhead: true}
			whole = &use{resourcehelper.PodRequests(pod, options), resourcehelper.PodLimits(pod, options)}
		}
		return whole
	}
}

func checkPod(items []limitItem, pod *v1.Pod, whole func() *use) (errs []error) {
	for i := range items {
		switch item := &items[i]; item.of {
		case v1.LimitTypeContainer:
			for _, containers := range [][]v1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
				for j := range containers {
					errs = item.check(&use{containers[j].Resources.Requests, containers[j].Resources.Limits}, errs)
				}
			}
		case v1.LimitTypePod:
			errs = item.check(whole(), errs)
		}
	}
	return errs
}

// CheckClaim says which limits a claim breaks: of a claim only requests are looked at.
func (l Limits) CheckClaim(claim *v1.PersistentVolumeClaim) error {
	of := &use{requests: claim.Spec.Resources.Requests}
	for _, items := range l.ranges {
		var errs []error
		for _, item := range items {
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
