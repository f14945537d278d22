package manifests

import (
	"fmt"
	"net/url"

	v1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/apis/core"
	corev1 "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/utils/ptr"
)

// LogOptions reads v1.PodLogOptions from the query of a request, with Kubernetes' defaults and validation, as the kubelet does
// (kubernetes/kubernetes pkg/kubelet/server/server.go, getContainerLogs).
func LogOptions(query url.Values) (*v1.PodLogOptions, error) {
	options := new(v1.PodLogOptions)
	if err := corev1.Convert_url_Values_To_v1_PodLogOptions(&query, options, nil); err != nil {
		return nil, fmt.Errorf("read log options: %w", err)
	}
	if options.Stream == nil { // the default is that of a gate which need not be on
		options.Stream = ptr.To(v1.LogStreamAll)
	}
	internal := new(core.PodLogOptions)
	if err := corev1.Convert_v1_PodLogOptions_To_core_PodLogOptions(options, internal, nil); err != nil {
		return nil, fmt.Errorf("read log options: %w", err)
	}
	if faults := validation.ValidatePodLogOptions(internal, true); len(faults) > 0 {
		return nil, fmt.Errorf("log options: %w", faults.ToAggregate())
	}
	return options, nil
}
