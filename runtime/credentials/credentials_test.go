package credentials_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podkeeper/podkeeper/runtime/credentials"
)

func secret(kind v1.SecretType, key, content string) *v1.Secret {
	return &v1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "pull", UID: "u1"},
		Type:       kind, Data: map[string][]byte{key: []byte(content)},
	}
}

func dockerConfig(content string) *v1.Secret {
	return secret(v1.SecretTypeDockerConfigJson, v1.DockerConfigJsonKey, content)
}

// said is a credential as REGISTRY=USER:PASSWORD.
func said(all []credentials.Credential) (lines []string) {
	for _, c := range all {
		lines = append(lines, fmt.Sprintf("%s=%s:%s", c.Registry, c.Username, c.Password))
	}
	return lines
}

func TestWhatASecretHolds(t *testing.T) {
	t.Parallel()
	for sentence, r := range map[string]struct {
		secret *v1.Secret
		want   []string
	}{
		"a name and a password":                 {dockerConfig(`{"auths": {"a.io": {"username": "u", "password": "p"}}}`), []string{"a.io=u:p"}},
		"both in base64":                        {dockerConfig(`{"auths": {"a.io": {"auth": "dTpwOnE="}}}`), []string{"a.io=u:p:q"}},
		"base64 without its padding":            {dockerConfig(`{"auths": {"a.io": {"auth": "dTpwOnE"}}}`), []string{"a.io=u:p:q"}},
		"base64 wins":                           {dockerConfig(`{"auths": {"a.io": {"username": "x", "password": "y", "auth": "dTpwOnE="}}}`), []string{"a.io=u:p:q"}},
		"the older type":                        {secret(v1.SecretTypeDockercfg, v1.DockerConfigKey, `{"a.io": {"username": "u", "password": "p", "email": "e"}}`), []string{"a.io=u:p"}},
		"several registries are in order":       {dockerConfig(`{"auths": {"b.io": {"username": "u"}, "a.io/x": {"username": "u"}, "a.io": {"username": "u"}}}`), []string{"a.io=u:", "a.io/x=u:", "b.io=u:"}},
		"schemes and versions are no path":      {dockerConfig(`{"auths": {"https://a.io/v1/": {"username": "u"}, "http://b.io:5000/v2/": {"username": "u"}, "c.io/": {"username": "u"}}}`), []string{"a.io=u:", "b.io:5000=u:", "c.io=u:"}},
		"a path behind a version is one":        {dockerConfig(`{"auths": {"https://a.io/v1/team": {"username": "u"}}}`), []string{"a.io/team=u:"}},
		"a token is nothing":                    {dockerConfig(`{"auths": {"a.io": {"identitytoken": "t"}, "b.io": {"registrytoken": "t"}}}`), nil},
		"an entry with nothing":                 {dockerConfig(`{"auths": {"a.io": {}}}`), nil},
		"a name that is no place":               {dockerConfig(`{"auths": {"a io\u0000": {"username": "u"}}}`), nil},
		"other settings of docker's":            {dockerConfig(`{"auths": {}, "credsStore": "x", "HttpHeaders": {"a": "b"}}`), nil},
		"no content":                            {dockerConfig(``), nil},
		"one place by two names, always so":     {dockerConfig(`{"auths": {"a.io": {"username": "u"}, "https://a.io": {"username": "v"}}}`), []string{"a.io=v:", "a.io=u:"}},
		"docker's name for its hub":             {dockerConfig(`{"auths": {"https://index.docker.io/v1/": {"username": "u"}}}`), []string{"index.docker.io=u:"}},
		"an address of version six with a port": {dockerConfig(`{"auths": {"[::1]:5000": {"username": "u"}}}`), []string{"[::1]:5000=u:"}},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			all, err := credentials.FromSecret(r.secret)
			if err != nil {
				t.Fatal(err)
			}
			got, want := said(all), r.want
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("it holds %q, want %q", got, want)
			}
			for _, c := range all {
				if c.OfNode() || c.Secret != (credentials.Secret{Namespace: "shop", Name: "pull", UID: "u1"}) {
					t.Errorf("it is from %+v", c.Secret)
				}
			}
		})
	}
}

func TestSecretsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for sentence, r := range map[string]struct {
		secret *v1.Secret
		want   string
	}{
		"no JSON":                     {dockerConfig(`{"auths": {"a.io": {"password": hunter2}}}`), `read secret shop/pull: .dockerconfigjson: is not JSON, at byte 33`},
		"a number for a password":     {dockerConfig(`{"auths": {"a.io": {"password": 46837}}}`), `read secret shop/pull: .dockerconfigjson: has a value of the wrong type, at byte 37`},
		"no base64":                   {dockerConfig(`{"auths": {"a.io": {"auth": "hunter2!"}}}`), `read secret shop/pull: .dockerconfigjson: an auth is not base64 of username:password`},
		"base64 of one word":          {dockerConfig(`{"auths": {"a.io": {"auth": "aHVudGVyMg=="}}}`), `read secret shop/pull: .dockerconfigjson: an auth is not base64 of username:password`},
		"the older type":              {secret(v1.SecretTypeDockercfg, v1.DockerConfigKey, `hunter2`), `read secret shop/pull: .dockercfg: is not JSON, at byte 1`},
		"a password where auths are":  {dockerConfig(`{"auths": "hunter2"}`), `read secret shop/pull: .dockerconfigjson: has a value of the wrong type, at byte 19`},
		"a Secret for something else": {secret(v1.SecretTypeOpaque, "password", "hunter2"), `read secret shop/pull: type "Opaque": must be of type kubernetes.io/dockerconfigjson or kubernetes.io/dockercfg`},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			_, err := credentials.FromSecret(r.secret)
			if err == nil || err.Error() != r.want {
				t.Fatalf("it says %v, want %s", err, r.want)
			}
			if wrongType := r.secret.Type == v1.SecretTypeOpaque; errors.Is(err, credentials.ErrNotForPulls) != wrongType {
				t.Errorf("its type is wrong: %v", !wrongType)
			}
			for _, part := range []string{"hunter2", "46837", "aHVudGVyMg"} {
				if strings.Contains(err.Error(), part) {
					t.Errorf("it tells the secret: %v", err)
				}
			}
		})
	}
}

func TestWhatIsForAnImage(t *testing.T) {
	t.Parallel()
	for sentence, r := range map[string]struct {
		has   string // registries; a user each, by their order
		image string
		want  string
	}{
		"the registry":                          {"a.io", "a.io/app", "a.io"},
		"another registry":                      {"a.io", "b.io/app", ""},
		"a path":                                {"a.io/team", "a.io/team/app", "a.io/team"},
		"another path":                          {"a.io/team", "a.io/other/app", ""},
		"the beginning of a path's name":        {"a.io/team", "a.io/teamwork/app", "a.io/team"},
		"the most specific first":               {"a.io a.io/team/app a.io/team", "a.io/team/app", "a.io/team/app a.io/team a.io"},
		"all of one place in their order":       {"a.io a.io a.io", "a.io/app", "a.io a.io a.io"},
		"a glob":                                {"*.a.io", "x.a.io/app", "*.a.io"},
		"a glob within a part":                  {"app*.a.io", "app1.a.io/app", "app*.a.io"},
		"a glob is for one part":                {"*.io", "x.a.io/app", ""},
		"a glob at the end":                     {"a.*", "a.io/app", "a.*"},
		"a name before the glob it matches":     {"*.a.io x.a.io", "x.a.io/app", "x.a.io *.a.io"},
		"no globs in paths":                     {"a.io/*/app", "a.io/team/app", ""},
		"the port":                              {"a.io:5000", "a.io:5000/app", "a.io:5000"},
		"another port":                          {"a.io:5000", "a.io:5001/app", ""},
		"no port is one, too":                   {"a.io", "a.io:5000/app", ""},
		"a port and a path":                     {"a.io:5000/team", "a.io:5000/team/app", "a.io:5000/team"},
		"docker's hub by its own name":          {"index.docker.io", "docker.io/library/busybox", "index.docker.io"},
		"docker's hub by its short name":        {"docker.io", "docker.io/library/busybox", "docker.io"},
		"the short name where both are":         {"index.docker.io docker.io", "docker.io/library/busybox", "docker.io"},
		"a path in docker's hub":                {"index.docker.io docker.io/team", "docker.io/library/busybox", "index.docker.io"},
		"docker's hub is for no other":          {"index.docker.io", "a.io/library/busybox", ""},
		"a pattern that is none":                {"a.io[", "a.io/app", ""},
		"a glob that is none":                   {"[a.io", "a.io/app", ""},
		"an address of version six with a port": {"[::1]:5000", "[::1]:5000/app", "[::1]:5000"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			var all []credentials.Credential
			for i, registry := range strings.Fields(r.has) {
				all = append(all, credentials.Credential{Registry: registry, Username: fmt.Sprint(i)})
			}
			last, got := map[string]string{}, []string{}
			for _, c := range credentials.ForImage(all, r.image) {
				if c.Username < last[c.Registry] {
					t.Errorf("%s comes too late", c.Username)
				}
				last[c.Registry], got = c.Username, append(got, c.Registry)
			}
			if strings.Join(got, " ") != r.want {
				t.Errorf("there is %q, want %q", got, r.want)
			}
		})
	}
}

func TestAPasswordIsNotPrinted(t *testing.T) {
	t.Parallel()
	all, err := credentials.FromSecret(dockerConfig(`{"auths": {"a.io": {"username": "u", "password": "hunter2"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		text := fmt.Sprintf(verb, all)
		if strings.Contains(text, "hunter2") || strings.Contains(text, "68756e74657232") || !strings.Contains(text, "credential for a.io of secret shop/pull") {
			t.Errorf("%s prints %s", verb, text)
		}
	}
}

// The kubelet's records hold the same, so that a node can go from one to the other.
func TestAHashTellsPasswordsApart(t *testing.T) {
	t.Parallel()
	one := credentials.Credential{Registry: "a.io", Username: "user", Password: "password"}
	same := credentials.Credential{Registry: "b.io", Username: "user", Password: "password", Secret: credentials.Secret{Name: "s"}}
	other := credentials.Credential{Registry: "a.io", Username: "userp", Password: "assword"}
	if one.Hash() != same.Hash() || one.Hash() == other.Hash() {
		t.Error("hashes are not of the name and the password")
	}
	// sha256 of {"username":"user","password":"password"}
	if want := "a55436fc140d516560d072c5fe8700385ce9f41629abf65c1edcbcb39fac691d"; one.Hash() != want {
		t.Errorf("a hash is %s", one.Hash())
	}
}

func FuzzSecrets(f *testing.F) {
	f.Add(`{"auths": {"a.io": {"auth": "dTpwOnE="}}}`, "a.io/app")
	f.Add(`{"auths": {"https://*.a.io:5/v1/": {"username": "u"}}}`, "x.a.io:5/app")
	f.Add(`{"auths": {"[": {"username": "u"}}}`, "%")
	f.Fuzz(func(t *testing.T, content, image string) {
		all, err := credentials.FromSecret(dockerConfig(content))
		if err == nil && len(credentials.ForImage(all, image)) > len(all) {
			t.Error("there is more than there is")
		}
	})
}
