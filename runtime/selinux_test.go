package runtime

import (
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

const (
	processLabel = "system_u:system_r:container_t:s0:c1,c2"
	filesLabel   = "system_u:object_r:container_file_t:s0:c1,c2"
)

func TestSELinuxLabelsOfAContainer(t *testing.T) {
	t.Parallel()
	for sentence, r := range map[string]struct {
		context v1.SecurityContext
		want    string
	}{
		"a container":                       {v1.SecurityContext{}, processLabel},
		"one that is root":                  {v1.SecurityContext{RunAsUser: ptr.To[int64](0)}, processLabel},
		"a privileged one runs without its": {v1.SecurityContext{Privileged: ptr.To(true)}, ""},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			cfg := secure(r.context)
			cfg.SELinux = SELinuxLabels{Process: processLabel, Files: filesLabel}
			s := written(t, cfg, withSELinux)
			same(t, r.want, s.Process.SelinuxLabel)
			same(t, filesLabel, s.Linux.MountLabel)
		})
	}
}

func TestContextOfMounts(t *testing.T) {
	t.Parallel()
	mounts := []mount.Mount{{Type: "overlay", Options: []string{"lowerdir=/a"}}, {Type: "bind", Options: []string{"rbind"}}}
	same(t, mounts, withContext(mounts, ""))
	same(t, []mount.Mount{
		{Type: "overlay", Options: []string{"lowerdir=/a", `context="` + filesLabel + `"`}}, {Type: "bind", Options: []string{"rbind"}},
	}, withContext(mounts, filesLabel))
	same(t, []string{"lowerdir=/a"}, mounts[0].Options)
}

func TestLabelsWhereThereIsNoSELinux(t *testing.T) {
	t.Parallel()
	none := SELinux()
	if none == nil {
		t.Skip("hack/nodetest/run -selinux looks at labels where there is SELinux")
	}
	r := &Runtime{cfg: Config{Handlers: map[string]Handler{Runc: {Type: runcType}, "vm": {Type: "io.containerd.kata.v2"}}}}
	_, err := r.FindSELinuxLabels(Runc, nil, "")
	same(t, "SELinux is not enabled on the host", err.Error())
	_, err = r.FindSELinuxLabels("vm", nil, "")
	same(t, "can't set `seLinuxOptions`, RuntimeClass handler \"vm\" does not support them: its type is not io.containerd.runc.v2", err.Error())
	if err := SetSELinuxLabel("/does/not/exist", ""); err != nil {
		t.Errorf("no label is no work: %v", err)
	}
	if SELinuxLevels() {
		t.Error("it has levels")
	}
}
