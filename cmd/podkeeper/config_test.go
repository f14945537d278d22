package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	logsapi "k8s.io/component-base/logs/api/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"github.com/podkeeper/podkeeper/agent/evict"
	"github.com/podkeeper/podkeeper/runtime"
)

const configHead = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"

func TestConfigurationsThatAreRefused(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct{ text, want string }{
		"a field that is not followed, with its line": {configHead + "nodeStatusMaxImages: 3\n", ":3: nodeStatusMaxImages: not supported"},
		"a field that does not exist":                 {configHead + "maxPodz: 3\n", `unknown field "maxPodz"`},
		"another kind":                                {"kind: Pod\n", "must be kind: KubeletConfiguration"},
		"a field in the line of another":              {"{kind: KubeletConfiguration, apiVersion: kubelet.config.k8s.io/v1beta1,\n\"nodeStatusMaxImages\": 3}\n", ":2: nodeStatusMaxImages: not supported"},
		"a driver that there is not":                  {configHead + "cgroupDriver: cgroup\n", ":3: cgroupDriver: \"cgroup\" is not supported: must be systemd or cgroupfs"},
		"no processes at all":                         {configHead + "podPidsLimit: 0\n", ":3: podPidsLimit: is 0: must be at least 1, or -1 for no limit"},
		"a factor of more than all":                   {configHead + "memoryThrottlingFactor: 1.5\n", ":3: memoryThrottlingFactor: is 1.5: must be above 0 and at most 1, or absent"},
		"a policy for memory that there is not":       {configHead + "memoryReservationPolicy: All\n", `:3: memoryReservationPolicy: "All" is not supported: must be None or TieredReservation`},
		"swap without a limit":                        {configHead + "memorySwap:\n  swapBehavior: UnlimitedSwap\n", `:4: memorySwap.swapBehavior: "UnlimitedSwap" is not supported: must be NoSwap or LimitedSwap`},
		"a start that fails where there is swap":      {configHead + "failSwapOn: true\n", ":3: failSwapOn: is true: must be false, or absent"},
		"CPUs of a container's own":                   {configHead + "cpuManagerPolicy: static\n", `:3: cpuManagerPolicy: "static" is not supported: must be none: no container has CPUs of its own`},
		"a taint that ends what runs":                 {configHead + "registerWithTaints:\n- {key: dedicated, effect: NoExecute}\n", ":4: registerWithTaints[0].effect: "},
		"a taint without a key":                       {configHead + "registerWithTaints:\n- {effect: NoSchedule}\n", ":4: registerWithTaints[0].key: "},
		"a form of the log":                           {configHead + "logging:\n  verbosity: 4\n  format: json\n", ":5: logging.format: not supported: remove it"},
		"too few log files":                           {configHead + "containerLogMaxFiles: 1\n", "must be at least 2"},
		"a period out of range":                       {configHead + "cpuCFSQuotaPeriod: 2s\n", "must be between 1ms and 1s"},
		"a rescan that would be too rare":             {configHead + "fileCheckFrequency: 1m\n", "must be at most 20s"},
		"a subnet that is none":                       {configHead + "podCIDR: fd00::/64\n", "must be an IPv4 subnet"},
		"sysctls that are the host's":                 {configHead + "allowedUnsafeSysctls: [vm.swappiness]\n", ":3: allowedUnsafeSysctls: \"vm.swappiness\" is not known to be a Pod's own"},
		"a negative rate of pulls":                    {configHead + "registryPullQPS: -1\n", ":3: registryPullQPS: is -1: must be at least 1, or 0 for no limit"},
		"a burst without a rate":                      {configHead + "registryBurst: 3\n", ":3: registryBurst: is 3: must be at least 1, and beside a registryPullQPS, or absent"},
		"a policy for pulls that there is not":        {configHead + "imagePullCredentialsVerificationPolicy: Sometimes\n", `:3: imagePullCredentialsVerificationPolicy: is "Sometimes": must be one of ["NeverVerify" `},
		"a list without its policy":                   {configHead + "preloadedImagesVerificationAllowlist: [a.io/x]\n", ":3: preloadedImagesVerificationAllowlist: is only for imagePullCredentialsVerificationPolicy: NeverVerifyAllowlistedImages"},
		"a list that means nothing": {configHead + "imagePullCredentialsVerificationPolicy: NeverVerifyAllowlistedImages\npreloadedImagesVerificationAllowlist:\n- a.io/x:v1\n",
			`:4: preloadedImagesVerificationAllowlist: has "a.io/x:v1": must be an image without tag and digest`},
		"a mark for images beyond all":            {configHead + "imageGCHighThresholdPercent: 101\n", ":3: imageGCHighThresholdPercent: is 101: must be between 0 and 100, inclusive"},
		"a mark below nothing":                    {configHead + "imageGCLowThresholdPercent: -1\n", ":3: imageGCLowThresholdPercent: is -1: must be between 0 and 100, inclusive"},
		"marks that contradict each other":        {configHead + "imageGCHighThresholdPercent: 80\nimageGCLowThresholdPercent: 80\n", ":4: imageGCLowThresholdPercent: is 80: must be less than imageGCHighThresholdPercent, which is 80"},
		"a mark that contradicts the default":     {configHead + "imageGCHighThresholdPercent: 70\n", ":3: imageGCHighThresholdPercent: is 70: must be more than imageGCLowThresholdPercent, which is 80"},
		"images younger than nothing":             {configHead + "imageMinimumGCAge: -1s\n", ":3: imageMinimumGCAge: is -1s: must not be negative"},
		"images that are too old at once":         {configHead + "imageMaximumGCAge: -1s\n", ":3: imageMaximumGCAge: is -1s: must not be negative"},
		"images that are too old and young":       {configHead + "imageMaximumGCAge: 2m\n", ":3: imageMaximumGCAge: is 2m0s: must be greater than imageMinimumGCAge, which is 2m0s"},
		"fewer than no Pods":                      {configHead + "maxPods: -1\n", ":3: maxPods: is -1: must be at least 1, or absent"},
		"a limit of all Pods' cgroup":             {configHead + "enforceNodeAllocatable: [pods]\n", `:3: enforceNodeAllocatable: "pods" is not supported: must be none, or absent`},
		"a reserve of what is not reserved":       {configHead + "systemReserved:\n  pid: 100\n", ":4: systemReserved[pid]: not supported: must be cpu, memory or ephemeral-storage"},
		"a reserve that is no quantity":           {configHead + "kubeReserved: {memory: much}\n", `:3: kubeReserved[memory]: is "much": must be a quantity of at least 0, such as 500m or 1Gi`},
		"a signal that there is not":              {configHead + "evictionHard: {gpu.available: 10%}\n", ":3: evictionHard[gpu.available]: not supported: must be one of memory.available, nodefs.available, nodefs.inodesFree, imagefs.available, imagefs.inodesFree, containerfs.available, containerfs.inodesFree, pid.available"},
		"the signal of a limit that there is not": {configHead + "evictionSoft: {allocatableMemory.available: 10%}\nevictionSoftGracePeriod: {allocatableMemory.available: 1m}\n", ":3: evictionSoft[allocatableMemory.available]: not supported: must be one of memory.available, "},
		"a soft threshold without its time":       {configHead + "evictionSoft: {memory.available: 10%}\n", ":3: evictionSoft[memory.available]: has no grace period: evictionSoftGracePeriod[memory.available] must say for how long it may be met"},
		"a time of no threshold":                  {configHead + "evictionSoftGracePeriod: {memory.available: 1m}\n", ":3: evictionSoftGracePeriod[memory.available]: is of no threshold: set evictionSoft[memory.available], or remove it"},
		"a time that is none":                     {configHead + "evictionSoft: {memory.available: 10%}\nevictionSoftGracePeriod: {memory.available: soon}\n", `:4: evictionSoftGracePeriod[memory.available]: is "soon": must be a duration above 0s, such as 1m30s`},
		"no time":                                 {configHead + "evictionSoft: {memory.available: 10%}\nevictionSoftGracePeriod: {memory.available: 0s}\n", `:4: evictionSoftGracePeriod[memory.available]: is "0s": must be a duration above 0s, such as 1m30s`},
		"a reclaim of no threshold":               {configHead + "evictionHard: {memory.available: 1Gi}\nevictionMinimumReclaim: {nodefs.available: 1Gi}\n", ":4: evictionMinimumReclaim[nodefs.available]: is of no threshold: set evictionHard[nodefs.available] or evictionSoft[nodefs.available], or remove it"},
		"a reclaim that is none":                  {configHead + "evictionMinimumReclaim: {memory.available: -1}\n", `:3: evictionMinimumReclaim[memory.available]: is "-1": must be a quantity above 0, such as 100Mi, or a share, such as 10%`},
		"a Pod's time below nothing":              {configHead + "evictionMaxPodGracePeriod: -1\n", ":3: evictionMaxPodGracePeriod: is -1: must not be negative"},
		"a pressure that is over before":          {configHead + "evictionPressureTransitionPeriod: -1s\n", ":3: evictionPressureTransitionPeriod: is -1s: must not be negative"},
		"a share of more than there is":           {configHead + "evictionHard: {memory.available: 110%}\n", `:3: evictionHard[memory.available]: is "110%": must be between 0% and 100%`},
		"a threshold that is none":                {configHead + "evictionHard: {nodefs.available: \"0\"}\n", `:3: evictionHard[nodefs.available]: is "0": must be a quantity above 0, such as 100Mi, or a share, such as 10%`},
		"a shutdown that is over at once":         {configHead + "shutdownGracePeriod: 500ms\n", ":3: shutdownGracePeriod: is 500ms: must be at least 1s, or 0s for none"},
		"a negative shutdown":                     {configHead + "shutdownGracePeriod: 5s\nshutdownGracePeriodCriticalPods: -1s\n", ":4: shutdownGracePeriodCriticalPods: is -1s: must be at least 1s, or 0s for none"},
		"more for critical Pods than for all":     {configHead + "shutdownGracePeriodCriticalPods: 5s\n", ":3: shutdownGracePeriodCriticalPods: is 5s: must be at most shutdownGracePeriod, which is 0s and includes it"},
		"two ways to say how long a shutdown is":  {configHead + "shutdownGracePeriod: 5s\nshutdownGracePeriodByPodPriority:\n- {priority: 0, shutdownGracePeriodSeconds: 5}\n", ":4: shutdownGracePeriodByPodPriority: is set beside shutdownGracePeriod or shutdownGracePeriodCriticalPods: remove one or the other"},
		"a group twice":                           {configHead + "shutdownGracePeriodByPodPriority:\n- {priority: 1, shutdownGracePeriodSeconds: 5}\n- {priority: 1, shutdownGracePeriodSeconds: 6}\n", ":5: shutdownGracePeriodByPodPriority[1].priority: is 1, as that of one before: remove one"},
		"a group of less than no time":            {configHead + "shutdownGracePeriodByPodPriority:\n- {priority: 1, shutdownGracePeriodSeconds: -5}\n", ":4: shutdownGracePeriodByPodPriority[0].shutdownGracePeriodSeconds: is -5: must not be negative"},
		"fewer ids than a Pod needs":              {configHead + "userNamespaces: {idsPerPod: 1000}\n", ":3: userNamespaces.idsPerPod: is 1000: must be a multiple of 65536, and at most 2147418112"},
		"no ids":                                  {configHead + "userNamespaces: {idsPerPod: 0}\n", ":3: userNamespaces.idsPerPod: is 0: must be a multiple of 65536"},
		"ids that are no multiple":                {configHead + "userNamespaces:\n  idsPerPod: 65537\n", ":4: userNamespaces.idsPerPod: is 65537: must be a multiple of 65536"},
		"more ids than there are":                 {configHead + "userNamespaces: {idsPerPod: 2147483648}\n", ":3: userNamespaces.idsPerPod: is 2147483648: must be a multiple of 65536, and at most 2147418112"},
		"what else there is of user namespaces":   {configHead + "userNamespaces: {first: 1}\n", "unknown field \"first\""},
		"pulls that contradict each other":        {configHead + "maxParallelImagePulls: 3\nserializeImagePulls: true\n", "remove one"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "config.yaml")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := readConfig(file); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("it says %v, want %q", err, c.want)
			}
		})
	}
}

func TestExtendedResourcesAreChecked(t *testing.T) {
	t.Parallel()
	if list, err := extendedResources(map[string]string{"example.com/dongle": "4"}); err != nil || list.Name("example.com/dongle", resource.DecimalSI).Value() != 4 {
		t.Errorf("%v, %v", list, err)
	}
	for name, count := range map[string]string{"gpu": "1", "cpu": "1", "kubernetes.io/x": "1", "example.com/a": "some", "example.com/b": "-1", "example.com/c": "500m"} {
		if _, err := extendedResources(map[string]string{name: count}); err == nil || !strings.HasPrefix(err.Error(), "--extended-resources: "+name) {
			t.Errorf("%s=%s: %v", name, count, err)
		}
	}
}

func TestCredentialProvidersNeedBothFlags(t *testing.T) {
	t.Parallel()
	for _, f := range []flags{{providers: "/config"}, {providersBin: "/bin"}} {
		if _, err := f.openProviders(); err == nil || !strings.Contains(err.Error(), "must be given together") {
			t.Errorf("%+v: %v", f, err)
		}
	}
	if p, err := (&flags{}).openProviders(); p != nil || err != nil {
		t.Errorf("without: %v, %v", p, err)
	}
}

func TestAFlagWinsOverTheFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(configHead+"staticPodPath: /file\npodLogsDir: /file/logs\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := readConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	cmd, f := agentCommand(), &flags{manifests: "/flag"}
	if err := cmd.Flags().Set("pod-manifest-path", "/flag"); err != nil {
		t.Fatal(err)
	}
	f.apply(cmd, cfg)
	if f.manifests != "/flag" || f.logsDir != "/file/logs" {
		t.Errorf("manifests in %s, logs in %s", f.manifests, f.logsDir)
	}
}

func TestDefaultRuntimeHandler(t *testing.T) {
	t.Parallel()
	known := map[string]runtime.Handler{"crun": {BinaryName: "/usr/bin/crun"}, "kata": {}}
	for sentence, c := range map[string]struct {
		asked, version string
		driver         string
		known          map[string]runtime.Handler
		runs           bool
		want           string
	}{
		"crun, where it is there and runs, on cgroup v2": {version: "v2", known: known, runs: true, want: "crun"},
		"not where systemd makes the cgroups":            {version: "v2", driver: "systemd", known: known, runs: true, want: "runc"},
		"not where it does not run":                      {version: "v2", known: known, want: "runc"},
		"nor on cgroup v1":                               {version: "hybrid", known: known, runs: true, want: "runc"},
		"nor where it is not there":                      {version: "v2", runs: true, want: "runc"},
		"what is asked for wins":                         {asked: "kata", version: "v2", known: known, runs: true, want: "kata"},
		"runc can be asked for":                          {asked: "runc", version: "v2", known: known, runs: true, want: "runc"},
		"what is not known is refused":                   {asked: "gvisor", version: "v2", known: known, runs: true},
	} {
		got, err := chooseHandler(c.asked, c.known, c.version, c.driver, func(string) bool { return c.runs })
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: got %q, %v", sentence, got, err)
		}
	}
}

func TestRuntimeHandlers(t *testing.T) {
	t.Parallel()
	got, err := parseHandlers([]string{"x=io.containerd.runc.v2,BinaryName=/usr/bin/x", "y=io.y.v1"})
	if err != nil || got["x"].BinaryName != "/usr/bin/x" || got["y"].Type != "io.y.v1" {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"x", "=t", "x=", "x=t,Other=1", "x=t,BinaryName="} {
		if _, err := parseHandlers([]string{bad}); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestEvictions(t *testing.T) {
	t.Parallel()
	for sentence, c := range map[string]struct{ text, want string }{
		"by default":         {"", "memory.available<104857600 nodefs.available<10 nodefs.inodesFree<5 imagefs.available<15 imagefs.inodesFree<5 | transition 5m0s, grace 0s"},
		"what is set is all": {"evictionHard: {memory.available: 1Gi}", "memory.available<1073741824 | transition 5m0s, grace 0s"},
		"but where the defaults are merged into it": {"evictionHard: {memory.available: 1Gi, nodefs.available: 0%}\nmergeDefaultEvictionSettings: true",
			"memory.available<1073741824 nodefs.inodesFree<5 imagefs.available<15 imagefs.inodesFree<5 | transition 5m0s, grace 0s"},
		"none":          {"evictionHard: {memory.available: 0%}", " | transition 5m0s, grace 0s"},
		"none, briefly": {"evictionHard: {}", " | transition 5m0s, grace 0s"},
		"soft ones, a reclaim, and times": {`evictionHard: {pid.available: 100%}
evictionSoft: {containerfs.available: 20%}
evictionSoftGracePeriod: {containerfs.available: 1m30s}
evictionMinimumReclaim: {containerfs.available: 1Gi}
evictionMaxPodGracePeriod: 60
evictionPressureTransitionPeriod: 30s`, "containerfs.available<20+1073741824 for 1m30s | transition 30s, grace 1m0s"},
		"a reclaim of 0 is none": {"evictionHard: {memory.available: 1}\nevictionMinimumReclaim: {memory.available: 0Mi}", "memory.available<1 | transition 5m0s, grace 0s"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "config.yaml")
			if err := os.WriteFile(file, []byte(configHead+c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := readConfig(file)
			if err != nil {
				t.Fatal(err)
			}
			p := evictions(cfg, unchecked)
			var all []string
			for _, signal := range evict.Signals { // in their order
				for _, of := range p.Thresholds {
					if of.Signal != signal {
						continue
					}
					text := fmt.Sprintf("%s<%d", signal, of.Below.Of(100))
					if more := of.Reclaim.Of(100); more > 0 {
						text += fmt.Sprintf("+%d", more)
					}
					if of.Grace > 0 {
						text += " for " + of.Grace.String()
					}
					all = append(all, text)
				}
			}
			if got := fmt.Sprintf("%s | transition %s, grace %s", strings.Join(all, " "), p.Transition, p.MaxPodGrace); got != c.want {
				t.Errorf("%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestWhatIsKeptFree(t *testing.T) {
	t.Parallel()
	cfg := &kubeletconfig.KubeletConfiguration{}
	has := v1.ResourceList{v1.ResourceMemory: resource.MustParse("1Gi"), v1.ResourceEphemeralStorage: resource.MustParse("100")}
	allocatable := func() string {
		r := reserve(cfg, unchecked)
		left := r.Allocatable(has)
		return left.Memory().String() + " " + left.StorageEphemeral().String()
	}
	if got := allocatable(); got != "924Mi 90" {
		t.Errorf("by default Pods may have %s", got)
	}
	cfg.EvictionHard = map[string]string{"imagefs.available": "50%"}
	cfg.EvictionSoft, cfg.EvictionSoftGracePeriod = map[string]string{"memory.available": "512Mi"}, map[string]string{"memory.available": "1m"}
	if got := allocatable(); got != "1Gi 100" {
		t.Errorf("without hard thresholds of them Pods may have %s", got)
	}
}

func TestGroupsOfPodsAtAShutdown(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct{ text, want string }{
		"by default there is none":                        {"", "[]"},
		"zeros are none":                                  {"shutdownGracePeriod: 0s\nshutdownGracePeriodCriticalPods: 0s\n", "[]"},
		"critical Pods have their part of the whole":      {"shutdownGracePeriod: 30s\nshutdownGracePeriodCriticalPods: 10s\n", "[{0 20s} {2000000000 10s}]"},
		"critical Pods have nothing":                      {"shutdownGracePeriod: 30s\n", "[{0 30s} {2000000000 0s}]"},
		"groups by priority are put into order":           {"shutdownGracePeriodByPodPriority:\n- {priority: 100, shutdownGracePeriodSeconds: 5}\n- {priority: -7, shutdownGracePeriodSeconds: 60}\n", "[{-7 1m0s} {100 5s}]"},
		"an empty list of groups leaves it at the others": {"shutdownGracePeriod: 2s\nshutdownGracePeriodByPodPriority: []\n", "[{0 2s} {2000000000 0s}]"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "config.yaml")
			if err := os.WriteFile(file, []byte(configHead+c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := readConfig(file)
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(shutdownGroups(cfg, unchecked)); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestWhatIsLogged(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		flag      string
		verbosity int
		want      slog.Level
		refused   bool
	}{
		"nothing is said":                {"", 0, slog.LevelInfo, false},
		"a little more than nothing":     {"", 3, slog.LevelInfo, false},
		"the file asks for decisions":    {"", 4, slog.LevelDebug, false},
		"the flag does":                  {"debug", 0, slog.LevelDebug, false},
		"the flag wins over the file":    {"warn", 9, slog.LevelWarn, false},
		"a level that there is not":      {"trace", 0, slog.LevelInfo, true},
		"one that slog would understand": {"INFO+2", 0, slog.LevelInfo, true},
	} {
		cfg := &kubeletconfig.KubeletConfiguration{}
		cfg.Logging.Verbosity = logsapi.VerbosityLevel(c.verbosity)
		got, err := logLevel(c.flag, cfg)
		if got != c.want || (err != nil) != c.refused {
			t.Errorf("%s: %s, %v", what, got, err)
		}
	}
	level := &slog.LevelVar{}
	journal := (&journalHandler{level: level}).WithAttrs(nil)
	if journal.Enabled(t.Context(), slog.LevelDebug) || !journal.Enabled(t.Context(), slog.LevelInfo) {
		t.Error("the journal is told of decisions, or of nothing")
	}
	if level.Set(slog.LevelDebug); !journal.Enabled(t.Context(), slog.LevelDebug) {
		t.Error("the journal is not told of decisions")
	}
}
