package runtime

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	defaults "github.com/containerd/containerd/v2/contrib/apparmor"
	"github.com/containerd/containerd/v2/pkg/apparmor"
	"github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// appArmorDefault is the name of the profile of type RuntimeDefault, which is containerd's.
const appArmorDefault = "podkeeper-default"

// Where the kernel tells of AppArmor.
const (
	appArmorFolder   = "/sys/kernel/security/apparmor"
	appArmorProfiles = appArmorFolder + "/profiles"
)

// AppArmor says why no AppArmor profile can be set on this host, nil where one can.
func AppArmor() error {
	if apparmor.HostSupports() {
		return nil
	}
	if _, err := os.Stat(appArmorFolder); err == nil {
		return errors.New("AppArmor is on, and yet no profile can be loaded: is /sbin/apparmor_parser installed?")
	}
	return errors.New("AppArmor is not enabled on the host") // the kubelet's words
}

// withAppArmor writes the name of the AppArmor profile: the container's, else the Pod's, else RuntimeDefault where the host has
// AppArmor, which a privileged container is spared (containerd internal/cri/sputil, GenerateApparmorSpecOpts).
func withAppArmor(s *specs.Spec, cfg *ContainerConfig) error {
	s.Process.ApparmorProfile = ""
	sc := securityContext(cfg)
	profile := firstSet(sc.AppArmorProfile, podSecurityContext(cfg).AppArmorProfile)
	if cfg.appArmor != nil {
		if profile != nil && profile.Type != v1.AppArmorProfileTypeUnconfined {
			return fmt.Errorf("set AppArmor profile: %w", cfg.appArmor)
		}
		return nil
	}
	switch {
	case profile == nil || profile.Type == v1.AppArmorProfileTypeRuntimeDefault:
		if !isTrue(sc.Privileged) {
			s.Process.ApparmorProfile = appArmorDefault
		}
	case profile.Type == v1.AppArmorProfileTypeLocalhost:
		s.Process.ApparmorProfile = ptr.Deref(profile.LocalhostProfile, "")
	}
	return nil
}

// loadAppArmor makes sure that the kernel has a profile. That of type RuntimeDefault is loaded where it is not, others are the
// host's to load.
func loadAppArmor(profile string) error {
	switch profile {
	case "":
		return nil
	case appArmorDefault:
		if err := defaults.LoadDefaultProfile(profile); err != nil {
			return fmt.Errorf("load AppArmor profile: %w", err)
		}
		return nil
	}
	list, err := os.Open(appArmorProfiles)
	if err != nil {
		return fmt.Errorf("read AppArmor profiles: %w", err)
	}
	defer list.Close()
	lines := bufio.NewScanner(list)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), profile+" (") {
			return nil
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read AppArmor profiles: %w", err)
	}
	return fmt.Errorf("apparmor profile not found %s: load it with apparmor_parser", profile)
}
