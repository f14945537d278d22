package main

import (
	"errors"
	"fmt"
	"maps"
	goruntime "runtime"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

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
