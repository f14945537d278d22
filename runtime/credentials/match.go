package credentials

import (
	"net"
	"net/url"
	"path"
	"slices"
	"strings"
)

// dockerHub is what the credentials of Docker Hub stand under in docker's configuration, besides docker.io.
const dockerHub = "index.docker.io"

// ForImage finds what of all gives access to an image: the most specific first, of those for one place in the order given.
// image is a full name without tag and digest, such as docker.io/library/busybox. The rules are those of
// kubernetes/kubernetes pkg/credentialprovider/keyring.go: hosts are equal, or match part by part where there are globs;
// ports are equal; the path of a credential is a prefix of the image's; what stands under index.docker.io is for images of
// docker.io for which there is nothing else.
func ForImage(all []Credential, image string) []Credential {
	var found []Credential
	for _, c := range all {
		if Matches(c.Registry, image) {
			found = append(found, c)
		}
	}
	if len(found) == 0 && (strings.HasPrefix(image, "docker.io/") || strings.HasPrefix(image, dockerHub+"/")) {
		for _, c := range all {
			if c.Registry == dockerHub {
				found = append(found, c)
			}
		}
	}
	// As names order, a path comes after its beginning, and a name after the glob that it matches.
	slices.SortStableFunc(found, func(a, b Credential) int { return strings.Compare(b.Registry, a.Registry) })
	return found
}

// Matches says whether a pattern, host[:port][/path] with globs in parts of the host, is for an image. It is what
// matchImages of a credential provider means, too. A pattern that is none is for no image.
func Matches(pattern, image string) bool {
	want, err := url.Parse("https://" + pattern)
	if err != nil {
		return false
	}
	got, err := url.Parse("https://" + image)
	if err != nil {
		return false
	}
	wantHost, wantPort := splitPort(want.Host)
	gotHost, gotPort := splitPort(got.Host)
	wantParts, gotParts := strings.Split(wantHost, "."), strings.Split(gotHost, ".")
	if wantPort != gotPort || len(wantParts) != len(gotParts) || !strings.HasPrefix(got.Path, want.Path) {
		return false
	}
	for i, part := range wantParts {
		if ok, err := path.Match(part, gotParts[i]); err != nil || !ok {
			return false
		}
	}
	return true
}

func splitPort(hostport string) (host, port string) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return hostport, ""
	}
	return host, port
}

// registryKey makes host[:port][/path] of what an entry of docker's configuration is called. The API's version, which it
// may end in, is no path.
func registryKey(name string) (string, bool) {
	if !strings.HasPrefix(name, "https://") && !strings.HasPrefix(name, "http://") {
		name = "https://" + name
	}
	parsed, err := url.Parse(name)
	if err != nil {
		return "", false
	}
	where := parsed.Path
	if strings.HasPrefix(where, "/v1/") || strings.HasPrefix(where, "/v2/") {
		where = where[len("/v1"):]
	}
	if where == "/" {
		where = ""
	}
	return parsed.Host + where, true
}

// FromAuths makes the node's own credentials of what a credential provider answers: names of registries or patterns, as in
// docker's configuration, with username and password.
func FromAuths(auths map[string][2]string) []Credential {
	entries := make(map[string]entry, len(auths))
	for name, auth := range auths {
		entries[name] = entry{Username: auth[0], Password: auth[1]}
	}
	all, _ := fromEntries(entries) // only an auth can be wrong
	return all
}
