package providers

import (
	"fmt"
	"strings"
	"sync"
	"time"

	credentialprovider "k8s.io/kubelet/pkg/apis/credentialprovider/v1"

	"github.com/podkeeper/podkeeper/runtime/credentials"
)

// answers are what a program has said, for as long as that holds.
type answers struct {
	mu    sync.Mutex
	known map[string]answer
}

type answer struct {
	all   []credentials.Credential
	until time.Time
}

// global is the key of answers for all images; no image is called so.
const global = "<global>"

// cacheKey is what an answer is for.
func cacheKey(kind credentialprovider.PluginCacheKeyType, image string) (string, error) {
	switch kind {
	case credentialprovider.ImagePluginCacheKeyType:
		return image, nil
	case credentialprovider.RegistryPluginCacheKeyType:
		return registryOf(image), nil
	case credentialprovider.GlobalPluginCacheKeyType:
		return global, nil
	default:
		return "", fmt.Errorf("its answer has cacheKeyType %q: must be Image, Registry or Global", kind)
	}
}

func registryOf(image string) string {
	registry, _, _ := strings.Cut(image, "/")
	return registry
}

// find answers what is known for an image: the most specific.
func (a *answers) find(image string, now time.Time) ([]credentials.Credential, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, key := range []string{image, registryOf(image), global} {
		if known, ok := a.known[key]; ok && now.Before(known.until) {
			return known.all, true
		}
	}
	return nil, false
}

// keep keeps an answer for a while, and forgets those whose time is over.
func (a *answers) keep(key string, all []credentials.Credential, now time.Time, holds time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for old, known := range a.known {
		if !now.Before(known.until) {
			delete(a.known, old)
		}
	}
	if a.known == nil {
		a.known = map[string]answer{}
	}
	if holds > 0 {
		a.known[key] = answer{all, now.Add(holds)}
	}
}
