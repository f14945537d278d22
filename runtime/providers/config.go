package providers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	kubeletconfig "k8s.io/kubelet/config/v1"
	credentialprovider "k8s.io/kubelet/pkg/apis/credentialprovider/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// Open reads a CredentialProviderConfig and finds its programs in binDir. config is a file, or a folder whose *.json, *.yaml
// and *.yml are read in the order of their names. Errors name the file and the field. The rules are the kubelet's
// (kubernetes/kubernetes pkg/credentialprovider/plugin/config.go).
func Open(config, binDir string) (*Providers, error) {
	files, err := configFiles(config)
	if err != nil {
		return nil, err
	}
	all := &Providers{}
	var errs []error
	named := map[string]string{} // the file of each provider
	for _, file := range files {
		found, err := readFile(file)
		errs = append(errs, err)
		for i, provider := range found {
			where := fmt.Sprintf("%s: providers[%d]", file, i)
			if other, twice := named[provider.Name]; twice {
				errs = append(errs, fmt.Errorf("%s.name: %q is in %s, too", where, provider.Name, other))
				continue
			}
			named[provider.Name] = file
			program, err := newProgram(provider, binDir)
			if err != nil {
				errs = append(errs, prefix(where, err))
				continue
			}
			all.programs = append(all.programs, program)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(all.programs) == 0 {
		return nil, fmt.Errorf("%s: providers: must hold at least one", config)
	}
	return all, nil
}

// configFiles are the files of a configuration.
func configFiles(config string) (files []string, err error) {
	stat, err := os.Stat(config)
	if err != nil {
		return nil, fmt.Errorf("read credential provider configuration: %w", err)
	}
	if !stat.IsDir() {
		return []string{config}, nil
	}
	entries, err := os.ReadDir(config) // in the order of names
	if err != nil {
		return nil, fmt.Errorf("read credential provider configuration: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() && slices.Contains([]string{".json", ".yaml", ".yml"}, filepath.Ext(e.Name())) {
			files = append(files, filepath.Join(config, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("read credential provider configuration: no *.json, *.yaml or *.yml in %s", config)
	}
	return files, nil
}

func readFile(file string) ([]kubeletconfig.CredentialProvider, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read credential provider configuration: %w", err)
	}
	encoded, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var config kubeletconfig.CredentialProviderConfig
	faults, err := json.UnmarshalStrict(encoded, &config)
	if err = errors.Join(append(faults, err)...); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	want := kubeletconfig.SchemeGroupVersion.String()
	if config.Kind != "CredentialProviderConfig" || config.APIVersion != want {
		return nil, fmt.Errorf("%s: kind %s of %s: must be kind: CredentialProviderConfig, apiVersion: %s",
			file, config.Kind, config.APIVersion, want)
	}
	return config.Providers, nil
}

// prefix puts the place before each of several errors.
func prefix(where string, err error) error {
	var several interface{ Unwrap() []error }
	if !errors.As(err, &several) {
		return fmt.Errorf("%s.%w", where, err)
	}
	var errs []error
	for _, one := range several.Unwrap() {
		errs = append(errs, fmt.Errorf("%s.%w", where, one))
	}
	return errors.Join(errs...)
}

// newProgram checks one provider. Errors begin with the field.
func newProgram(c kubeletconfig.CredentialProvider, binDir string) (*program, error) {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	p := &program{
		name: c.Name, path: filepath.Join(binDir, c.Name), matches: c.MatchImages, args: c.Args,
		apiVersion: c.APIVersion, timeout: timeout,
	}
	switch {
	case c.Name == "" || c.Name == "." || c.Name == ".." || strings.ContainsAny(c.Name, "/ "):
		wrong("name: is %q: must be the name of a program, without / and spaces", c.Name)
	default:
		if _, err := exec.LookPath(p.path); err != nil {
			wrong("name: %q: no such program in %s: %w", c.Name, binDir, err)
		}
	}
	if want := credentialprovider.SchemeGroupVersion.String(); c.APIVersion != want {
		wrong("apiVersion: is %q: must be %s", c.APIVersion, want)
	}
	if len(c.MatchImages) == 0 {
		wrong("matchImages: must hold at least one")
	}
	for _, pattern := range c.MatchImages {
		if _, err := filepath.Match(pattern, ""); err != nil || pattern == "" || strings.Contains(pattern, "://") {
			wrong("matchImages: has %q: must be HOST[:PORT][/PATH], such as *.registry.example", pattern)
		}
	}
	switch {
	case c.DefaultCacheDuration == nil:
		wrong("defaultCacheDuration: is missing: must be a duration, such as 10m")
	case c.DefaultCacheDuration.Duration < 0:
		wrong("defaultCacheDuration: is %s: must not be negative", c.DefaultCacheDuration.Duration)
	default:
		p.keep = c.DefaultCacheDuration.Duration
	}
	if c.TokenAttributes != nil {
		wrong("tokenAttributes: not supported by podkeeper, which makes no tokens of service accounts: remove it")
	}
	for _, v := range c.Env {
		p.env = append(p.env, v.Name+"="+v.Value)
	}
	return p, errors.Join(errs...)
}

// timeout is how long a program may take (kubernetes/kubernetes pkg/credentialprovider/plugin/plugin.go).
const timeout = time.Minute
