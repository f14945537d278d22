package main

import (
	"errors"
	"fmt"
	"maps"
	goruntime "runtime"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	podnode "github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/manifests"
)

// extendedResources are the quantities of resources that only Pods know what to do with. The error is what is none (kubernetes.io/docs
// "extended resources").
func extendedResources(given map[string]string) (v1.ResourceList, error) {
	list := v1.ResourceList{}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(given)) {
		q, err := resource.ParseQuantity(given[name])
		switch {
		case !manifests.IsExtendedResource(v1.ResourceName(name)):
			errs = append(errs, fmt.Errorf("--extended-resources: %s: must have a domain of its own, such as example.com/dongle", name))
		case err != nil || q.Sign() < 0 || q.MilliValue()%1000 != 0:
			errs = append(errs, fmt.Errorf("--extended-resources: %s=%s: must be a whole number, such as 4", name, given[name]))
		default:
			list[v1.ResourceName(name)] = q
		}
	}
	return list, errors.Join(errs...)
}

// checkTaints refuses what no taint of a node can be.
func checkTaints(taints []v1.Taint, wrong func(field, format string, args ...any)) {
	node := podnode.NewObject("node", nil)
	node.Spec.Taints = taints
	manifests.Default(node)
	for _, fault := range manifests.Check(node) {
		if _, at, is := strings.Cut(fault.Field, ".taints"); is {
			wrong("registerWithTaints"+at, "%s", fault.ErrorBody())
		}
	}
}

// checkLabels refuses what no label of a node can be, by the rules of the kubelet's flag of the same name (kubernetes/kubernetes
// cmd/kubelet/app/options). Only that of labels in kubernetes.io is not there: it is an API server that must not be told them.
// The operating system is not for anybody to choose.
func checkLabels(labels map[string]string) error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		value := labels[key]
		wrong := slices.Concat(validation.IsQualifiedName(key), validation.IsValidLabelValue(value))
		if key == v1.LabelOSStable && value != goruntime.GOOS {
			wrong = append(wrong, "is "+goruntime.GOOS+" on this node")
		}
		if len(wrong) > 0 {
			errs = append(errs, fmt.Errorf("--node-labels: %s=%s: %s", key, value, strings.Join(wrong, ", ")))
		}
	}
	return errors.Join(errs...)
}
