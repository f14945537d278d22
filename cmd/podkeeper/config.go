package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	podnode "github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/agent/reclaim"
	"github.com/podkeeper/podkeeper/manifests"
	"github.com/podkeeper/podkeeper/runtime/pullrecords"
)

// supported are the fields of KubeletConfiguration that podkeeper follows. Any other one is refused by name.
var supported = []string{
	"apiVersion", "kind", "staticPodPath", "podLogsDir", "containerRuntimeEndpoint", "fileCheckFrequency",
	"clusterDNS", "clusterDomain", "resolvConf", "cgroupRoot", "cgroupDriver", "cpuCFSQuota", "cpuCFSQuotaPeriod",
	"singleProcessOOMKill", "containerLogMaxSize", "containerLogMaxFiles", "maxParallelImagePulls", "serializeImagePulls",
	"runtimeRequestTimeout", "crashLoopBackOff", "podCIDR", "allowedUnsafeSysctls", "seccompDefault", "registryPullQPS", "registryBurst",
	"imageGCHighThresholdPercent", "imageGCLowThresholdPercent", "imageMinimumGCAge", "imageMaximumGCAge",
	"imagePullCredentialsVerificationPolicy", "preloadedImagesVerificationAllowlist",
	"podPidsLimit", "memoryThrottlingFactor", "memoryReservationPolicy", "memorySwap", "failSwapOn", "cpuManagerPolicy",
	"maxPods", "systemReserved", "kubeReserved", "enforceNodeAllocatable", "registerWithTaints",
	"evictionHard", "evictionSoft", "evictionSoftGracePeriod", "evictionMinimumReclaim", "evictionMaxPodGracePeriod",
	"evictionPressureTransitionPeriod", "mergeDefaultEvictionSettings", "logging",
	"shutdownGracePeriod", "shutdownGracePeriodCriticalPods", "shutdownGracePeriodByPodPriority", "userNamespaces",
}

// readConfig reads a KubeletConfiguration. An empty name is one without any field set.
func readConfig(file string) (*kubeletconfig.KubeletConfiguration, error) {
	cfg := &kubeletconfig.KubeletConfiguration{}
	if file == "" {
		return cfg, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if err := yaml.UnmarshalStrict(data, cfg); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if cfg.Kind != "KubeletConfiguration" || cfg.APIVersion != kubeletconfig.SchemeGroupVersion.String() {
		return nil, fmt.Errorf("%s: kind %s of %s: must be kind: KubeletConfiguration, apiVersion: %s",
			file, cfg.Kind, cfg.APIVersion, kubeletconfig.SchemeGroupVersion)
	}
	return cfg, errors.Join(checkFields(file, data), checkValues(file, data, cfg))
}

// checkFields refuses what podkeeper does not follow.
func checkFields(file string, data []byte) error {
	var fields map[string]any
	if err := yaml.Unmarshal(data, &fields); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	var errs []error
	for field := range fields {
		if !slices.Contains(supported, field) {
			errs = append(errs, refuse(file, data, field, "not supported: remove it"))
		}
	}
	if logging, is := fields["logging"].(map[string]any); is {
		for field := range logging {
			if field != "verbosity" {
				errs = append(errs, refuse(file, data, "logging."+field, "not supported: remove it"))
			}
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// refuse says what is wrong with a field in the words, and at the place, that manifests have for their faults.
func refuse(file string, data []byte, field, reason string) error {
	return manifests.Refusal{File: file, Line: manifests.Line(data, field), Field: field, Reason: reason}
}

// checkValues refuses values out of range.
func checkValues(file string, data []byte, cfg *kubeletconfig.KubeletConfiguration) error {
	var errs []error
	wrong := func(field, format string, args ...any) {
		errs = append(errs, refuse(file, data, field, fmt.Sprintf(format, args...)))
	}
	if err := podnode.CheckUnsafeSysctls(cfg.AllowedUnsafeSysctls); err != nil {
		wrong("allowedUnsafeSysctls", "%v", err)
	}
	if n := cfg.ContainerLogMaxFiles; n != nil && *n < 2 {
		wrong("containerLogMaxFiles", "is %d: must be at least 2", *n)
	}
	if p := cfg.CPUCFSQuotaPeriod; p != nil && (p.Duration < time.Millisecond || p.Duration > time.Second) {
		wrong("cpuCFSQuotaPeriod", "is %s: must be between 1ms and 1s", p.Duration)
	}
	if f := cfg.FileCheckFrequency.Duration; f < 0 || f > maxRescan {
		wrong("fileCheckFrequency", "is %s: must be at most %s, or absent", f, maxRescan)
	}
	if p := cfg.CrashLoopBackOff.MaxContainerRestartPeriod; p != nil && (p.Duration < time.Second || p.Duration > 300*time.Second) {
		wrong("crashLoopBackOff.maxContainerRestartPeriod", "is %s: must be between 1s and 300s", p.Duration)
	}
	if p, err := podCIDR(cfg); err != nil || p.IsValid() && (!p.Addr().Is4() || p.Bits() > 30) {
		wrong("podCIDR", "is %q: must be an IPv4 subnet of at least four addresses, such as 10.187.0.0/16", cfg.PodCIDR)
	}
	if n := idsPerPod(cfg); n < podnode.UsersUnit || n > podnode.MostUsers || n%podnode.UsersUnit != 0 {
		wrong("userNamespaces.idsPerPod", "is %d: must be a multiple of %d, and at most %d", n, podnode.UsersUnit, podnode.MostUsers)
	}
	checkCgroups(cfg, wrong)
	checkPulls(cfg, wrong)
	checkImages(cfg, wrong)
	checkRoom(cfg, wrong)
	checkTaints(cfg.RegisterWithTaints, wrong)
	evictions(cfg, wrong)
	shutdownGroups(cfg, wrong)
	return errors.Join(errs...)
}

// idsPerPod is how many users and groups of its own a Pod with hostUsers: false has, with Kubernetes' default.
func idsPerPod(cfg *kubeletconfig.KubeletConfiguration) int64 {
	return ptr.Deref(ptr.Deref(cfg.UserNamespaces, kubeletconfig.UserNamespaces{}).IDsPerPod, podnode.UsersUnit)
}

// debugVerbosity is the verbosity from which on decisions are logged, the kubelet's for debugging
// (kubernetes.io/docs/reference/kubectl/quick-reference, "Kubectl output verbosity and debugging").
const debugVerbosity = 4

// logLevel is what is logged: as the flag says or, where it says nothing, the file.
func logLevel(flag string, cfg *kubeletconfig.KubeletConfiguration) (slog.Level, error) {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	level, known := levels[flag]
	switch {
	case known:
		return level, nil
	case flag != "":
		return slog.LevelInfo, fmt.Errorf("--log-level: %q: must be debug, info, warn or error", flag)
	case cfg.Logging.Verbosity >= debugVerbosity:
		return slog.LevelDebug, nil
	default:
		return slog.LevelInfo, nil
	}
}

// setLogLevel has that be logged, from now on.
func setLogLevel(level *slog.LevelVar, flag string, cfg *kubeletconfig.KubeletConfiguration) error {
	chosen, err := logLevel(flag, cfg)
	level.Set(chosen)
	return err
}

// unchecked takes values for granted that were checked when they were read.
func unchecked(string, string, ...any) {}

// checkPulls refuses values out of range for pulls of images.
func checkPulls(cfg *kubeletconfig.KubeletConfiguration, wrong func(field, format string, args ...any)) {
	if n := cfg.MaxParallelImagePulls; n != nil && *n < 1 {
		wrong("maxParallelImagePulls", "is %d: must be at least 1", *n)
	}
	if n := cfg.MaxParallelImagePulls; n != nil && *n > 1 && cfg.SerializeImagePulls != nil && *cfg.SerializeImagePulls {
		wrong("maxParallelImagePulls", "is %d, but serializeImagePulls is true: remove one", *n)
	}
	if n := cfg.RegistryPullQPS; n != nil && *n < 0 {
		wrong("registryPullQPS", "is %d: must be at least 1, or 0 for no limit", *n)
	}
	if n := cfg.RegistryBurst; n < 0 || n > 0 && ptr.Deref(cfg.RegistryPullQPS, 0) == 0 {
		wrong("registryBurst", "is %d: must be at least 1, and beside a registryPullQPS, or absent", n)
	}
	policy := pullPolicy(cfg)
	if err := policy.CheckVerification(); err != nil {
		wrong("imagePullCredentialsVerificationPolicy", "%v", err)
	} else if err := policy.CheckAllowlist(); err != nil {
		wrong("preloadedImagesVerificationAllowlist", "%v", err)
	}
}

// imagePolicy says which images go, with Kubernetes' defaults.
func imagePolicy(cfg *kubeletconfig.KubeletConfiguration) reclaim.Policy {
	return reclaim.Policy{
		High: int(ptr.Deref(cfg.ImageGCHighThresholdPercent, 85)), Low: int(ptr.Deref(cfg.ImageGCLowThresholdPercent, 80)),
		MinAge: cmp.Or(cfg.ImageMinimumGCAge.Duration, 2*time.Minute), MaxAge: cfg.ImageMaximumGCAge.Duration,
	}
}

// checkImages refuses values out of range for the removal of images, as Kubernetes does
// (kubernetes/kubernetes pkg/kubelet/apis/config/validation).
func checkImages(cfg *kubeletconfig.KubeletConfiguration, wrong func(field, format string, args ...any)) {
	p := imagePolicy(cfg)
	for field, percent := range map[string]int{"imageGCHighThresholdPercent": p.High, "imageGCLowThresholdPercent": p.Low} {
		if percent < 0 || percent > 100 {
			wrong(field, "is %d: must be between 0 and 100, inclusive", percent)
		}
	}
	if p.Low >= p.High && cfg.ImageGCLowThresholdPercent != nil {
		wrong("imageGCLowThresholdPercent", "is %d: must be less than imageGCHighThresholdPercent, which is %d", p.Low, p.High)
	} else if p.Low >= p.High {
		wrong("imageGCHighThresholdPercent", "is %d: must be more than imageGCLowThresholdPercent, which is %d", p.High, p.Low)
	}
	if p.MinAge < 0 {
		wrong("imageMinimumGCAge", "is %s: must not be negative", p.MinAge)
	}
	if p.MaxAge < 0 {
		wrong("imageMaximumGCAge", "is %s: must not be negative", p.MaxAge)
	} else if p.MaxAge > 0 && p.MaxAge <= p.MinAge {
		wrong("imageMaximumGCAge", "is %s: must be greater than imageMinimumGCAge, which is %s", p.MaxAge, p.MinAge)
	}
}

// pullPolicy says of which images the right to use them is verified.
func pullPolicy(cfg *kubeletconfig.KubeletConfiguration) pullrecords.Policy {
	return pullrecords.Policy{
		Verification: cfg.ImagePullCredentialsVerificationPolicy, Allowlist: cfg.PreloadedImagesVerificationAllowlist,
	}
}

// podCIDR is the subnet of the built-in network, the zero value where none is configured.
func podCIDR(cfg *kubeletconfig.KubeletConfiguration) (netip.Prefix, error) {
	if cfg.PodCIDR == "" {
		return netip.Prefix{}, nil
	}
	return netip.ParsePrefix(cfg.PodCIDR)
}

// maxRescan bounds how long a change that was not noticed may stay so.
const maxRescan = 20 * time.Second
