package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"github.com/podkeeper/podkeeper/trust"
)

// trust says who, other than root, could change what is read at a path, unless that is allowed.
func (f *flags) trust(path string) error {
	if f.allowUnsafe {
		return nil
	}
	return trust.Path(path)
}

// checkPlaces refuses folders of the agent's own that others could put something into.
func (f *flags) checkPlaces() error {
	check := func(flag, dir string) error {
		if err := f.trust(dir); err != nil {
			return fmt.Errorf("%s: %s is not trusted: %w", flag, dir, err)
		}
		return nil
	}
	return errors.Join(check("--root-dir", f.rootDir), check("--run-dir", f.runDir))
}

// permissions says what of all that the agent follows others than root may write, whether that is allowed or not.
func (f *flags) permissions() (faults []error) {
	told := map[string]bool{}
	look := func(path string) {
		if err := trust.Path(path); err != nil && !told[err.Error()] {
			told[err.Error()] = true
			faults = append(faults, err)
		}
	}
	for _, dir := range []string{f.manifests, f.imageDir, filepath.Join(f.rootDir, "seccomp"), f.cniConf, f.cniBin, f.providers, f.providersBin} {
		if dir == "" {
			continue
		}
		look(dir)
		// What cannot be listed is no folder, or told of elsewhere.
		_ = filepath.WalkDir(dir+"/", func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				look(path)
			}
			return nil
		})
	}
	return faults
}

// readConfig reads the configuration, unless others than root may change it.
func (f *flags) readConfig() (*kubeletconfig.KubeletConfiguration, error) {
	if f.config != "" {
		if err := f.trust(f.config); err != nil {
			return nil, fmt.Errorf("--config: %s is not trusted: %w", f.config, err)
		}
	}
	return readConfig(f.config)
}
