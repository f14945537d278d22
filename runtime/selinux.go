package runtime

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/selinux/go-selinux"
	"github.com/opencontainers/selinux/go-selinux/label"
	v1 "k8s.io/api/core/v1"
)

// SELinuxLabels are what SELinux knows a container by. The zero value is none of its own.
type SELinuxLabels struct {
	Process string // of its processes
	Files   string // of the files that are its Pod's
	Shared  string // of files that every Pod's containers may read
}

// lowestLevel is the level of what everybody may read.
const lowestLevel = "s0"

// SELinux says why no labels can be set on this host, nil where they can.
func SELinux() error {
	if !selinux.GetEnabled() {
		return errors.New("SELinux is not enabled on the host")
	}
	process, files, err := label.InitLabels([]string{"level:" + lowestLevel})
	if err != nil || process == "" || unknownLabel(process, files) != "" {
		return errors.New("SELinux is on, and yet its policy has no labels of containers: is container-selinux installed?")
	}
	return nil
}

// SELinuxLevels says whether the host's policy tells processes and files of one type apart by their levels, as all usual ones do.
func SELinuxLevels() bool { return selinux.MLSEnabled() }

// FindSELinuxLabels answers the labels that options ask for containers of a runtime handler, the default one where that is empty. What they
// do not say is as the host's policy has it for containers, and the level is the one given, else the lowest.
func (r *Runtime) FindSELinuxLabels(name string, o *v1.SELinuxOptions, level string) (SELinuxLabels, error) {
	handler, err := r.handler(name)
	if err == nil && handler.Type != runcType {
		err = fmt.Errorf("can't set `seLinuxOptions`, RuntimeClass handler %q does not support them: its type is not %s", name, runcType)
	}
	if err == nil {
		err = SELinux()
	}
	if err != nil {
		return SELinuxLabels{}, err
	}
	var options []string
	add := func(part, value string) {
		if value != "" {
			options = append(options, part+":"+value)
		}
	}
	if o == nil {
		o = &v1.SELinuxOptions{}
	}
	add("user", o.User)
	add("role", o.Role)
	add("type", o.Type)
	add("level", o.Level)
	if o.Level == "" && SELinuxLevels() {
		add("level", cmp.Or(level, lowestLevel))
	}
	var found SELinuxLabels
	if found.Process, found.Files, err = label.InitLabels(options); err != nil {
		return SELinuxLabels{}, fmt.Errorf("make SELinux labels: %w", err)
	}
	if label := unknownLabel(found.Process, found.Files); label != "" {
		return SELinuxLabels{}, fmt.Errorf("seLinuxOptions: the host's SELinux policy has no label %q", label)
	}
	shared, err := selinux.NewContext(found.Files)
	if err != nil {
		return SELinuxLabels{}, fmt.Errorf("make SELinux labels: %w", err)
	}
	if SELinuxLevels() {
		shared["level"] = lowestLevel
	}
	found.Shared = shared.Get()
	return found, nil
}

// unknownLabel is the first of the labels that the host's policy does not have, empty for none.
func unknownLabel(labels ...string) string {
	for _, label := range labels {
		if selinux.SecurityCheckContext(label) != nil {
			return label
		}
	}
	return ""
}

// SetSELinuxLabel labels a file; an empty label leaves it as it is.
func SetSELinuxLabel(file, to string) error {
	if to == "" {
		return nil
	}
	if err := selinux.SetFileLabel(file, to); err != nil {
		return fmt.Errorf("set SELinux label: %w", err)
	}
	return nil
}

// withSELinux writes the labels. A privileged container's processes have those of who starts it (containerd internal/cri/server,
// createContainer).
func withSELinux(s *specs.Spec, cfg *ContainerConfig) error {
	s.Linux.MountLabel = cfg.SELinux.Files
	if !isTrue(securityContext(cfg).Privileged) {
		s.Process.SelinuxLabel = cfg.SELinux.Process
	}
	return nil
}

// withContext has all in file systems that are to be mounted have a label. What is there already, and is only bound, keeps its own.
func withContext(mounts []mount.Mount, label string) []mount.Mount {
	if label == "" {
		return mounts
	}
	out := slices.Clone(mounts)
	for i, m := range out {
		if m.Type != "bind" {
			out[i].Options = append(slices.Clone(m.Options), contextOption(label))
		}
	}
	return out
}

// contextOption is the option of a mount that gives all in it a label, which has commas in it.
func contextOption(label string) string { return fmt.Sprintf("context=%q", label) }
