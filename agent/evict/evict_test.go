package evict

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/podkeeper/podkeeper/agent/admit"
)

func share(text string) admit.Share {
	s, err := admit.ParseShare(text)
	if err != nil {
		panic(err)
	}
	return s
}

// moment is one look at a node: after so long, with so much available of each signal, in percent.
type moment struct {
	at       time.Duration
	readings string
	pressure string
	starved  string
}

func TestPressure(t *testing.T) {
	t.Parallel()
	hard := func(s Signal, below string) Threshold { return Threshold{Signal: s, Below: share(below)} }
	soft := func(s Signal, below string, grace time.Duration) Threshold {
		return Threshold{Signal: s, Below: share(below), Grace: grace}
	}
	reclaiming := hard(NodeFSAvailable, "10%")
	reclaiming.Reclaim = share("5")
	const disk, memory = "DiskPressure", "MemoryPressure"
	for sentence, r := range map[string]struct {
		thresholds []Threshold
		moments    []moment
	}{
		"enough of everything": {[]Threshold{hard(MemoryAvailable, "10%")}, []moment{{0, "memory.available=10", "", ""}}},
		"less than a share is too little": {[]Threshold{hard(MemoryAvailable, "10%")}, []moment{
			{0, "memory.available=9", memory, "memory.available"},
		}},
		"less than a quantity is too little": {[]Threshold{hard(PIDAvailable, "20")}, []moment{
			{0, "pid.available=19", "PIDPressure", "pid.available"}, {time.Second, "pid.available=20", "PIDPressure", ""},
		}},
		"a condition stays for its time after it was observed last": {[]Threshold{hard(NodeFSAvailable, "10%")}, []moment{
			{0, "nodefs.available=9", disk, "nodefs.available"},
			{time.Minute, "nodefs.available=9", disk, "nodefs.available"},
			{time.Minute + 5*time.Minute - 1, "nodefs.available=50", disk, ""},
			{time.Minute + 5*time.Minute, "nodefs.available=50", "", ""},
		}},
		"one that comes and goes stays": {[]Threshold{hard(NodeFSAvailable, "10%")}, []moment{
			{0, "nodefs.available=9", disk, "nodefs.available"}, {4 * time.Minute, "nodefs.available=11", disk, ""},
			{5 * time.Minute, "nodefs.available=9", disk, "nodefs.available"}, {9 * time.Minute, "nodefs.available=11", disk, ""},
		}},
		"what was reclaimed must be more than what is too little": {[]Threshold{reclaiming}, []moment{
			{0, "nodefs.available=12", "", ""}, {1, "nodefs.available=9", disk, "nodefs.available"},
			{2, "nodefs.available=14", disk, "nodefs.available"}, {3, "nodefs.available=15", disk, ""}, {4, "nodefs.available=12", disk, ""},
		}},
		"a soft threshold is a condition at once, and acted upon when its time is over": {[]Threshold{soft(MemoryAvailable, "10%", time.Minute)}, []moment{
			{0, "memory.available=9", memory, ""}, {59 * time.Second, "memory.available=9", memory, ""},
			{time.Minute, "memory.available=9", memory, "memory.available"},
		}},
		"its time begins anew when it was not met": {[]Threshold{soft(MemoryAvailable, "10%", time.Minute)}, []moment{
			{0, "memory.available=9", memory, ""}, {30 * time.Second, "memory.available=11", memory, ""},
			{time.Minute, "memory.available=9", memory, ""}, {2 * time.Minute, "memory.available=9", memory, "memory.available"},
		}},
		"memory goes before all else, and what is to be done at once before what has time": {[]Threshold{
			soft(NodeFSAvailable, "50%", 1), hard(PIDAvailable, "50%"), hard(ImageFSAvailable, "50%"), hard(NodeFSInodesFree, "50%"), soft(MemoryAvailable, "50%", 1), hard(MemoryAvailable, "40%"),
		}, []moment{
			{0, "nodefs.available=1 pid.available=1 imagefs.available=1 nodefs.inodesFree=1 memory.available=1", "DiskPressure MemoryPressure PIDPressure",
				"memory.available nodefs.inodesFree imagefs.available pid.available"},
			{1, "nodefs.available=1 pid.available=1 imagefs.available=1 nodefs.inodesFree=1 memory.available=1", "DiskPressure MemoryPressure PIDPressure",
				"memory.available memory.available nodefs.inodesFree imagefs.available pid.available nodefs.available"},
		}},
		"containerfs is one of its own": {[]Threshold{hard(ContainerFSAvailable, "10%"), hard(ContainerFSInodesFree, "10%")}, []moment{
			{0, "containerfs.available=9 containerfs.inodesFree=9", disk, "containerfs.available containerfs.inodesFree"},
		}},
		"what cannot be read is not met": {[]Threshold{hard(ImageFSInodesFree, "10%")}, []moment{{0, "imagefs.available=1", "", ""}}},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			p := Policy{Thresholds: r.thresholds, Transition: 5 * time.Minute}
			var s State
			for _, m := range r.moments {
				s = p.Look(s, readings(t, m.readings), time.Unix(0, 0).Add(m.at))
				var pressure, starved []string
				for _, c := range s.Pressure {
					pressure = append(pressure, string(c))
				}
				for _, s := range s.Starved {
					starved = append(starved, string(s.Signal))
				}
				if got := strings.Join(pressure, " "); got != m.pressure {
					t.Errorf("after %s: %q, want %q", m.at, got, m.pressure)
				}
				if got := strings.Join(starved, " "); got != m.starved {
					t.Errorf("after %s there is to be reclaimed %q, want %q", m.at, got, m.starved)
				}
			}
		})
	}
	for available, want := range map[int64]bool{14: false, 15: true} {
		if got := reclaiming.Relieved(Reading{available, 100}); got != want {
			t.Errorf("with %d it is relieved: %v", available, got)
		}
	}
}

// readings are of signals of which there are 100.
func readings(t *testing.T, text string) Readings {
	r := Readings{}
	for _, word := range strings.Fields(text) {
		var available int64
		name, number, _ := strings.Cut(word, "=")
		if _, err := fmt.Sscan(number, &available); err != nil {
			t.Fatal(err)
		}
		r[Signal(name)] = Reading{available, 100}
	}
	return r
}

// candidate is a Pod of one container that uses so much memory, or disk in its layer and its log, and has asked for so much.
func candidate(name string, priority int32, uses, asks string) Candidate {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}}
	p.Spec.Priority = &priority
	c := v1.Container{Name: "app", Resources: v1.ResourceRequirements{Requests: v1.ResourceList{}}}
	if asks != "" {
		c.Resources.Requests[v1.ResourceMemory], c.Resources.Requests[v1.ResourceEphemeralStorage] = resource.MustParse(asks), resource.MustParse(asks)
	}
	p.Spec.Containers = []v1.Container{c}
	if uses == "" {
		return Candidate{Pod: p}
	}
	q := resource.MustParse(uses)
	return Candidate{p, &Usage{Memory: q.Value(), Processes: q.Value(), Containers: map[string]Container{"app": {Memory: q.Value(), Layer: Amount{q.Value(), q.Value()}}}}}
}

func TestRank(t *testing.T) {
	t.Parallel()
	many := func(name string, layer, logs, volume int64) Candidate {
		c := candidate(name, 0, "0", "")
		c.Usage.Containers["app"] = Container{Layer: Amount{layer, layer}, Logs: Amount{logs, logs}}
		c.Usage.Volumes = map[string]Amount{"data": {volume, volume}}
		return c
	}
	files := many("files", 0, 0, 0)
	files.Usage.Files = Amount{9, 9}
	parts := []Candidate{many("layer", 3, 0, 0), many("logs", 0, 4, 0), many("volume", 1, 0, 5), files}
	for sentence, r := range map[string]struct {
		signal Signal
		layout Layout
		pods   []Candidate
		want   string
	}{
		"who uses more than he asked for, whatever his priority": {MemoryAvailable, Layout{},
			[]Candidate{candidate("in", 0, "2Gi", "3Gi"), candidate("over", 9, "2Mi", "1Mi")}, "over in"},
		"who uses just what he asked for is not over": {MemoryAvailable, Layout{},
			[]Candidate{candidate("just", 0, "1Gi", "1Gi"), candidate("over", 9, "2Mi", "1Mi")}, "over just"},
		"of these the lower priority": {MemoryAvailable, Layout{},
			[]Candidate{candidate("high", 5, "3Gi", ""), candidate("low", -5, "1Mi", "")}, "low high"},
		"of one priority who uses the most beyond what he asked for": {MemoryAvailable, Layout{},
			[]Candidate{candidate("a", 0, "3Gi", "2Gi"), candidate("b", 0, "2Gi", "")}, "b a"},
		"of those within their requests as well": {MemoryAvailable, Layout{},
			[]Candidate{candidate("a", 0, "1Gi", "4Gi"), candidate("b", 0, "1Gi", "2Gi")}, "b a"},
		"who cannot be measured goes first": {MemoryAvailable, Layout{},
			[]Candidate{candidate("a", -1, "3Gi", ""), candidate("unknown", 9, "", "")}, "unknown a"},
		"of two that are the same the first by name": {MemoryAvailable, Layout{},
			[]Candidate{candidate("b", 0, "1", ""), candidate("a", 0, "1", "")}, "a b"},
		"what the node does not work without stays": {MemoryAvailable, Layout{},
			[]Candidate{candidate("node", 2000001000, "3Gi", ""), candidate("cluster", 2000000000, "3Gi", ""), candidate("a", 1000000000, "1", "")}, "a"},
		"disk by what is beyond requests": {NodeFSAvailable, Layout{},
			[]Candidate{candidate("in", 0, "2Gi", "3Gi"), candidate("over", 9, "2Mi", "1Mi")}, "over in"},
		"inodes nobody asks for": {NodeFSInodesFree, Layout{},
			[]Candidate{candidate("few", 0, "1k", ""), candidate("many", 0, "2k", "1Gi"), candidate("high", 1, "9k", "")}, "many few high"},
		"processes by priority, then by their number": {PIDAvailable, Layout{},
			[]Candidate{candidate("high", 1, "900", ""), candidate("few", 0, "3", ""), candidate("many", 0, "30", "")}, "many few high"},
		"on one file system everything counts":                    {NodeFSAvailable, Layout{}, parts, "files volume logs layer"},
		"of images as well":                                       {ImageFSAvailable, Layout{}, parts, "files volume logs layer"},
		"of writable layers as well":                              {ContainerFSInodesFree, Layout{}, parts, "files volume logs layer"},
		"layers are on another one: the node's has the rest":      {NodeFSAvailable, Layout{true, true}, parts, "files volume logs layer"},
		"and theirs has them":                                     {ImageFSAvailable, Layout{true, true}, parts, "layer volume files logs"},
		"by whatever name":                                        {ContainerFSAvailable, Layout{true, true}, parts, "layer volume files logs"},
		"only images are apart: of them no Pod has anything":      {ImageFSAvailable, Layout{ImagesApart: true}, parts, "files layer logs volume"},
		"only images are apart: layers are on the node's as ever": {NodeFSAvailable, Layout{ImagesApart: true}, []Candidate{many("layer", 9, 0, 0), many("logs", 0, 4, 0)}, "layer logs"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			given := slices.Clone(r.pods)
			var names []string
			for _, c := range r.layout.Rank(r.signal, r.pods) {
				names = append(names, c.Pod.Name)
			}
			if got := strings.Join(names, " "); got != r.want {
				t.Errorf("they go %q, want %q", got, r.want)
			}
			if !slices.Equal(given, r.pods) {
				t.Error("what it was given is in another order")
			}
		})
	}
}

func TestMessage(t *testing.T) {
	t.Parallel()
	two := candidate("web", 0, "3Gi", "1Gi")
	two.Pod.Spec.InitContainers = []v1.Container{{Name: "side"}, {Name: "gone"}}
	two.Usage.Containers["side"] = Container{Memory: 5 << 20}
	disk := candidate("web", 0, "0", "10Ki")
	disk.Usage.Containers["app"] = Container{Layer: Amount{Bytes: 6 << 10}, Logs: Amount{Bytes: 6 << 10}}
	for sentence, r := range map[string]struct {
		threshold Threshold
		reading   Reading
		of        Candidate
		want      string
	}{
		"who uses more than he asked for is named": {Threshold{Signal: MemoryAvailable, Below: share("100Mi")}, Reading{50 << 20, 8 << 30}, two,
			"The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. " +
				"Container app was using 3Gi, request is 1Gi, has larger consumption of memory. " +
				"Container side was using 5Mi, request is 0, has larger consumption of memory. "},
		"who does not is not": {Threshold{Signal: MemoryAvailable, Below: share("10%")}, Reading{1 << 20, 1 << 30}, candidate("web", 0, "1Gi", "1Gi"),
			"The node was low on resource: memory. Threshold quantity: 107374182, available: 1Mi. "},
		"of a disk layer and log count together": {Threshold{Signal: NodeFSAvailable, Below: share("1Gi")}, Reading{1 << 20, 8 << 30}, disk,
			"The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 1Mi. " +
				"Container app was using 12Ki, request is 10Ki, has larger consumption of ephemeral-storage. "},
		"of inodes nobody is named": {Threshold{Signal: ImageFSInodesFree, Below: share("5%")}, Reading{1000, 100000}, two,
			"The node was low on resource: inodes. Threshold quantity: 5k, available: 1k. "},
		"nor of processes": {Threshold{Signal: PIDAvailable, Below: share("100")}, Reading{50, 100000}, two,
			"The node was low on resource: pids. Threshold quantity: 100, available: 50. "},
		"nor who cannot be measured": {Threshold{Signal: MemoryAvailable, Below: share("1Gi")}, Reading{0, 8 << 30}, candidate("web", 0, "", ""),
			"The node was low on resource: memory. Threshold quantity: 1Gi, available: 0. "},
	} {
		if got := Message(r.threshold, r.reading, r.of); got != r.want {
			t.Errorf("%s:\n%s\nwant\n%s", sentence, got, r.want)
		}
	}
}

func TestGrace(t *testing.T) {
	t.Parallel()
	hard, soft := Threshold{}, Threshold{Grace: time.Minute}
	for sentence, r := range map[string]struct {
		most time.Duration
		of   Threshold
		own  *int64
		want time.Duration
	}{
		"at a hard threshold a second":                 {time.Hour, hard, ptr.To[int64](30), time.Second},
		"at a soft one the Pod's own":                  {time.Hour, soft, ptr.To[int64](30), 30 * time.Second},
		"but no more than a Pod may have":              {10 * time.Second, soft, ptr.To[int64](30), 10 * time.Second},
		"and no less than a second":                    {0, soft, ptr.To[int64](30), time.Second},
		"also where the Pod has none":                  {time.Minute, soft, ptr.To[int64](0), time.Second},
		"without one of its own what a Pod may have":   {time.Minute, soft, nil, time.Minute},
		"at a hard one the Pod's own is not asked for": {time.Minute, hard, nil, time.Second},
	} {
		p := Policy{MaxPodGrace: r.most}
		if got := p.Grace(r.of, &v1.Pod{Spec: v1.PodSpec{TerminationGracePeriodSeconds: r.own}}); got != r.want {
			t.Errorf("%s: %s, want %s", sentence, got, r.want)
		}
	}
}

func TestHold(t *testing.T) {
	t.Parallel()
	plain, burstable := candidate("a", 0, "", "").Pod, candidate("a", 0, "", "1Mi").Pod
	critical := candidate("a", SystemCritical, "", "").Pod
	tolerant := candidate("a", 0, "", "").Pod
	tolerant.Spec.Tolerations = []v1.Toleration{{Key: "node.kubernetes.io/memory-pressure", Operator: v1.TolerationOpExists}}
	const memory, disk, pid = v1.NodeMemoryPressure, v1.NodeDiskPressure, v1.NodePIDPressure
	for sentence, r := range map[string]struct {
		pod      *v1.Pod
		pressure []v1.NodeConditionType
		want     string
	}{
		"without pressure anything begins":               {plain, nil, ""},
		"under that of memory not what asks for nothing": {plain, []v1.NodeConditionType{memory}, "The node had condition: [MemoryPressure]. "},
		"unless it tolerates that":                       {tolerant, []v1.NodeConditionType{memory}, ""},
		"what asks for memory begins":                    {burstable, []v1.NodeConditionType{memory}, ""},
		"under that of disks nothing does":               {burstable, []v1.NodeConditionType{disk}, "The node had condition: [DiskPressure]. "},
		"nor under that of processes":                    {burstable, []v1.NodeConditionType{pid}, "The node had condition: [PIDPressure]. "},
		"nor under two":                                  {tolerant, []v1.NodeConditionType{disk, memory}, "The node had condition: [DiskPressure MemoryPressure]. "},
		"but for what the node does not work without":    {critical, []v1.NodeConditionType{disk, memory}, ""},
	} {
		if got := Hold(r.pod, r.pressure); got != r.want {
			t.Errorf("%s: %q, want %q", sentence, got, r.want)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	type used = map[string]int64
	// pod has containers and volumes with limits, such as app=1Mi; "" is none. Of a name with a star is an init container, with two a sidecar.
	pod := func(containers, volumes string) *v1.Pod {
		p := &v1.Pod{}
		for _, word := range strings.Fields(containers) {
			name, limit, _ := strings.Cut(word, "=")
			c := v1.Container{Name: strings.Trim(name, "*")}
			if limit != "" {
				c.Resources.Limits = v1.ResourceList{v1.ResourceEphemeralStorage: resource.MustParse(limit)}
			}
			switch strings.Count(name, "*") {
			case 0:
				p.Spec.Containers = append(p.Spec.Containers, c)
			case 2:
				c.RestartPolicy = ptr.To(v1.ContainerRestartPolicyAlways)
				fallthrough
			default:
				p.Spec.InitContainers = append(p.Spec.InitContainers, c)
			}
		}
		for _, word := range strings.Fields(volumes) {
			name, limit, _ := strings.Cut(word, "=")
			e := &v1.EmptyDirVolumeSource{}
			if name == "memory" {
				e.Medium = v1.StorageMediumMemory
			}
			if limit != "" {
				e.SizeLimit = ptr.To(resource.MustParse(limit))
			}
			p.Spec.Volumes = append(p.Spec.Volumes, v1.Volume{Name: name, VolumeSource: v1.VolumeSource{EmptyDir: e}})
		}
		return p
	}
	critical := pod("app=1Mi", "data=1Mi")
	critical.Spec.Priority = ptr.To[int32](SystemCritical)
	const mib = 1 << 20
	for sentence, r := range map[string]struct {
		pod          *v1.Pod
		layers, logs used
		volumes      used // and of "/etc", which every container may write to
		limited      bool
		signal       Signal
		want         string
	}{
		"no limits":                     {pod("app", "data"), used{"app": 1 << 40}, nil, used{"data": 1 << 40}, false, "", ""},
		"just what it may have":         {pod("app=1Mi", "data=1Mi"), used{"app": mib / 2}, used{"app": mib / 4}, used{"data": mib / 4}, true, "", ""},
		"an emptyDir":                   {pod("app", "data=1Mi other"), nil, nil, used{"data": mib + 1, "other": 9 * mib}, true, EmptyDirLimit, `Usage of EmptyDir volume "data" exceeds the limit "1Mi". `},
		"a limit of 0 is none":          {pod("app", "data=0"), nil, nil, used{"data": mib}, false, "", ""},
		"one in memory is the kernel's": {pod("app", "memory=1Mi"), nil, nil, nil, false, "", ""},
		"a container's layer":           {pod("app=1Mi other=2Mi", ""), used{"app": mib + 1}, nil, nil, true, ContainerLimit, `Container app exceeded its local ephemeral storage limit "1Mi". `},
		"a container's logs":            {pod("app=1Mi other=2Mi", ""), nil, used{"app": mib + 1}, nil, true, ContainerLimit, `Container app exceeded its local ephemeral storage limit "1Mi". `},
		"both together":                 {pod("app=1Mi other=2Mi", ""), used{"app": mib / 2}, used{"app": mib/2 + 1}, nil, true, ContainerLimit, `Container app exceeded its local ephemeral storage limit "1Mi". `},
		"an emptyDir is not a container's, but counts for the Pod": {pod("app=1Mi other=1Mi", "data"), used{"app": mib}, nil, used{"data": mib + 1}, true, PodLimit,
			"Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. "},
		"who has no limit of its own counts for the Pod": {pod("app=1Mi free", ""), used{"free": mib + 1}, nil, nil, true, PodLimit,
			"Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "},
		"what is written to /etc/hosts counts for the Pod": {pod("app=1Mi", ""), used{"app": mib / 2}, nil, used{"/etc": mib/2 + 1}, true, PodLimit,
			"Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "},
		"what is wrong with an emptyDir is told first": {pod("app=1Mi", "data=1Mi"), used{"app": mib}, nil, used{"data": 2 * mib}, true, EmptyDirLimit, `Usage of EmptyDir volume "data" exceeds the limit "1Mi". `},
		"a sidecar":         {pod("app=1Mi **side=1Mi", ""), used{"side": mib + 1}, nil, nil, true, ContainerLimit, `Container side exceeded its local ephemeral storage limit "1Mi". `},
		"an init container": {pod("app=1Mi *init=4Mi", ""), used{"init": 4*mib + 1}, nil, nil, true, PodLimit, "Pod ephemeral local storage usage exceeds the total limit of containers 4Mi. "},
		"an init container has its own limit nowhere": {pod("app=4Mi *init=1Mi", ""), used{"init": 2 * mib}, nil, nil, true, "", ""},
		"what the node does not work without":         {critical, used{"app": 9 * mib}, nil, used{"data": 9 * mib}, false, "", ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			u := &Usage{Containers: map[string]Container{}, Volumes: map[string]Amount{}}
			for _, c := range slices.Concat(r.pod.Spec.Containers, r.pod.Spec.InitContainers) {
				u.Containers[c.Name] = Container{Layer: Amount{Bytes: r.layers[c.Name]}, Logs: Amount{Bytes: r.logs[c.Name]}}
			}
			for name, bytes := range r.volumes {
				u.Volumes[name] = Amount{Bytes: bytes}
			}
			u.Files = u.Volumes["/etc"]
			delete(u.Volumes, "/etc")
			if got := Limited(r.pod); got != r.limited {
				t.Errorf("it has limits: %v", got)
			}
			if signal, got := Over(r.pod, u); signal != r.signal || got != r.want {
				t.Errorf("%s: %q, want %s: %q", signal, got, r.signal, r.want)
			}
		})
	}
}
