package providers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// answerHead is how every answer begins.
const answerHead = `{"kind": "CredentialProviderResponse", "apiVersion": "credentialprovider.kubelet.k8s.io/v1", `

// install makes a provider's program, a script, and answers the folder.
func install(t *testing.T, programs map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, script := range programs {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// says is a script that counts its runs in a file and answers.
func says(answer string) string {
	return "cat > /dev/null; echo >> $(dirname $0)/$(basename $0).runs; cat <<'END'\n" + answerHead + answer + "}\nEND\n"
}

const configTop = "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n"

func provider(name, pattern string) string {
	return fmt.Sprintf("- {name: %s, apiVersion: credentialprovider.kubelet.k8s.io/v1, matchImages: [%q], defaultCacheDuration: 0s}\n", name, pattern)
}

func write(t *testing.T, file, text string) string {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	t.Parallel()
	bin := install(t, map[string]string{"good": "true"})
	field := func(from, to string) string {
		return configTop + strings.Replace(provider("good", "a.io"), from, to, 1)
	}
	for sentence, c := range map[string]struct{ text, want string }{
		"no YAML":                   {"{", ": yaml: "},
		"another kind":              {"kind: Pod\napiVersion: v1\n", ": kind Pod of v1: must be kind: CredentialProviderConfig, apiVersion: kubelet.config.k8s.io/v1"},
		"a field that there is not": {field("name:", "nam: x, name:"), `unknown field "providers[0].nam"`},
		"no providers":              {configTop, ": providers: must hold at least one"},
		"no such program":           {field("good", "missing"), `: providers[0].name: "missing": no such program in `},
		"a path for a name":         {field("good", "../good"), `: providers[0].name: is "../good": must be the name of a program, without / and spaces`},
		"another protocol":          {field("apiVersion: credentialprovider.kubelet.k8s.io/v1", "apiVersion: credentialprovider.kubelet.k8s.io/v1alpha1"), `: providers[0].apiVersion: is "credentialprovider.kubelet.k8s.io/v1alpha1": must be credentialprovider.kubelet.k8s.io/v1`},
		"no images":                 {field(`["a.io"]`, "[]"), ": providers[0].matchImages: must hold at least one"},
		"a pattern that is none":    {field("a.io", "https://a.io"), `: providers[0].matchImages: has "https://a.io": must be HOST[:PORT][/PATH], such as *.registry.example`},
		"no duration":               {field(", defaultCacheDuration: 0s", ""), ": providers[0].defaultCacheDuration: is missing: must be a duration, such as 10m"},
		"a negative one":            {field("0s", "-1s"), ": providers[0].defaultCacheDuration: is -1s: must not be negative"},
		"tokens":                    {field("0s", "0s, tokenAttributes: {serviceAccountTokenAudience: x}"), ": providers[0].tokenAttributes: not supported by podkeeper"},
		"one twice":                 {configTop + provider("good", "a.io") + provider("good", "b.io"), `: providers[1].name: "good" is in `},
		"two faults, the second":    {configTop + strings.Replace(strings.Replace(provider("good", "a.io"), "0s", "-1s", 1), `["a.io"]`, "[]", 1), "providers[0].matchImages: must hold at least one"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			file := write(t, filepath.Join(t.TempDir(), "config.yaml"), c.text)
			_, err := Open(file, bin)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), file) {
				t.Errorf("it says %v, want %s", err, c.want)
			}
		})
	}
}

func TestAFolderOfConfigurations(t *testing.T) {
	t.Parallel()
	bin := install(t, map[string]string{"one": "true", "two": "true", "three": "true"})
	dir := t.TempDir()
	if _, err := Open(dir, bin); err == nil || !strings.Contains(err.Error(), "no *.json, *.yaml or *.yml in "+dir) {
		t.Errorf("an empty one: %v", err)
	}
	write(t, filepath.Join(dir, "b.yaml"), configTop+provider("three", "a.io"))
	write(t, filepath.Join(dir, "a.yml"), configTop+provider("one", "a.io")+provider("two", "a.io"))
	write(t, filepath.Join(dir, "notes.txt"), "no configuration")
	p, err := Open(dir, bin)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, program := range p.programs {
		names = append(names, program.name)
	}
	if got := strings.Join(names, " "); got != "one two three" {
		t.Errorf("the order is %s", got)
	}
	write(t, filepath.Join(dir, "c.yaml"), configTop+provider("one", "b.io"))
	if _, err := Open(dir, bin); err == nil || !strings.Contains(err.Error(), `c.yaml: providers[0].name: "one" is in `+filepath.Join(dir, "a.yml")) {
		t.Errorf("one in two files: %v", err)
	}
	if _, err := Open(filepath.Join(dir, "none"), bin); err == nil {
		t.Error("a file that does not exist is taken")
	}
}

// ask opens providers and asks them for an image.
func ask(t *testing.T, bin, config, image string) (string, error) {
	t.Helper()
	p, err := Open(write(t, filepath.Join(t.TempDir(), "config.yaml"), config), bin)
	if err != nil {
		t.Fatal(err)
	}
	all, err := p.Credentials(t.Context(), image)
	var said []string
	for _, c := range all {
		if !c.OfNode() {
			t.Errorf("%v is a Secret's", c)
		}
		said = append(said, c.Registry+"="+c.Username+":"+c.Password)
	}
	return strings.Join(said, " "), err
}

func TestWhatProvidersAnswer(t *testing.T) {
	t.Parallel()
	auth := func(pattern, password string) string {
		return fmt.Sprintf(`"cacheKeyType": "Image", "auth": {%q: {"username": "u", "password": %q}}`, pattern, password)
	}
	for sentence, c := range map[string]struct {
		programs map[string]string
		config   string
		want     string
		fault    string
	}{
		"a password":              {map[string]string{"one": says(auth("a.io", "p"))}, provider("one", "a.io"), "a.io=u:p", ""},
		"one for another image":   {map[string]string{"one": says(auth("b.io", "p"))}, provider("one", "a.io"), "", ""},
		"one that is not asked":   {map[string]string{"one": "exit 1"}, provider("one", "b.io"), "", ""},
		"one by a glob":           {map[string]string{"one": says(auth("*.io/team", "p"))}, provider("one", "*.io"), "*.io/team=u:p", ""},
		"two, in their order":     {map[string]string{"one": says(auth("a.io", "p")), "two": says(auth("a.io", "q"))}, provider("two", "a.io") + provider("one", "a.io"), "a.io=u:q a.io=u:p", ""},
		"two, of which one fails": {map[string]string{"one": "echo out of luck >&2; exit 3", "two": says(auth("a.io", "q"))}, provider("one", "a.io") + provider("two", "a.io"), "a.io=u:q", `credential provider "one": exit status 3: out of luck`},
		"nothing":                 {map[string]string{"one": says(`"cacheKeyType": "Global"`)}, provider("one", "a.io"), "", ""},
		"no JSON":                 {map[string]string{"one": "cat >/dev/null; echo hunter2"}, provider("one", "a.io"), "", `credential provider "one": its answer is not the JSON of a CredentialProviderResponse`},
		"a field too much":        {map[string]string{"one": says(`"cacheKeyType": "Image", "password": "hunter2"`)}, provider("one", "a.io"), "", `credential provider "one": its answer is not the JSON of a CredentialProviderResponse`},
		"another version":         {map[string]string{"one": `echo '{"kind": "CredentialProviderResponse", "apiVersion": "v9"}'`}, provider("one", "a.io"), "", `credential provider "one": its answer must be kind: CredentialProviderResponse, apiVersion: credentialprovider.kubelet.k8s.io/v1`},
		"no key of a cache":       {map[string]string{"one": says(`"cacheKeyType": "Node"`)}, provider("one", "a.io"), "", `credential provider "one": its answer has cacheKeyType "Node": must be Image, Registry or Global`},
		"arguments and environment are the configuration's": {
			map[string]string{"one": `cat > /dev/null; echo '` + answerHead + `"cacheKeyType": "Image", "auth": {"a.io": {"username": "'$1'", "password": "'$MINE$PATH'"}}}'`},
			strings.Replace(provider("one", "a.io"), "name:", "args: [hello], env: [{name: MINE, value: x}, {name: PATH, value: y:/bin:/usr/bin}], name:", 1), "a.io=hello:xy:/bin:/usr/bin", "",
		},
		"the request is Kubernetes'": {
			map[string]string{"one": `test "$(cat)" = '{"kind":"CredentialProviderRequest","apiVersion":"credentialprovider.kubelet.k8s.io/v1","image":"a.io/team/app"}' || exit 9; echo '` + answerHead + auth("a.io", "p") + `}'`},
			provider("one", "a.io"), "a.io=u:p", "",
		},
		"a lot of complaints": {map[string]string{"one": "head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1"}, provider("one", "a.io"), "", `credential provider "one": exit status 1: ` + strings.Repeat("x", maxComplaint)},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			got, err := ask(t, install(t, c.programs), configTop+c.config, "a.io/team/app")
			if got != c.want {
				t.Errorf("there is %q, want %q", got, c.want)
			}
			if fault := fmt.Sprint(err); c.fault == "" && err != nil || c.fault != "" && fault != c.fault {
				t.Errorf("it says %s, want %s", fault, c.fault)
			}
		})
	}
}

// A program that hangs is ended with all that it has started.
func TestAProviderThatHangs(t *testing.T) {
	t.Parallel()
	bin := install(t, map[string]string{"one": "sleep 1000 & sleep 1000"})
	p, err := Open(write(t, filepath.Join(t.TempDir(), "config.yaml"), configTop+provider("one", "a.io")), bin)
	if err != nil {
		t.Fatal(err)
	}
	p.programs[0].timeout = 50 * time.Millisecond
	begin := time.Now()
	if _, err := p.Credentials(context.Background(), "a.io/app"); err == nil || err.Error() != `credential provider "one": has not answered for 50ms` {
		t.Errorf("it says %v", err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestHowLongAnAnswerHolds(t *testing.T) {
	t.Parallel()
	auth := `, "auth": {"a.io": {"username": "u", "password": "p"}, "b.io": {"username": "u", "password": "q"}}`
	for sentence, c := range map[string]struct {
		answer, standard string
		runs             int // for a.io/app, a.io/app, a.io/other, b.io/app
	}{
		"for an image":                  {`"cacheKeyType": "Image", "cacheDuration": "1h"`, "0s", 3},
		"for a registry":                {`"cacheKeyType": "Registry", "cacheDuration": "1h"`, "0s", 2},
		"for all":                       {`"cacheKeyType": "Global", "cacheDuration": "1h"`, "0s", 1},
		"as long as is configured":      {`"cacheKeyType": "Global"`, "1h", 1},
		"not at all":                    {`"cacheKeyType": "Global"`, "0s", 4},
		"not at all, though configured": {`"cacheKeyType": "Global", "cacheDuration": "0s"`, "1h", 4},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			bin := install(t, map[string]string{"one": says(c.answer + auth)})
			config := configTop + strings.Replace(provider("one", "*.io"), "0s", c.standard, 1)
			p, err := Open(write(t, filepath.Join(t.TempDir(), "config.yaml"), config), bin)
			if err != nil {
				t.Fatal(err)
			}
			for _, image := range []string{"a.io/app", "a.io/app", "a.io/other", "b.io/app"} {
				if all, err := p.Credentials(t.Context(), image); err != nil || len(all) != 1 || !strings.HasPrefix(image, all[0].Registry) {
					t.Errorf("for %s there is %v: %v", image, all, err)
				}
			}
			runs, err := os.ReadFile(filepath.Join(bin, "one.runs"))
			if err != nil || len(runs) != c.runs {
				t.Errorf("it ran %d times, want %d: %v", len(runs), c.runs, err)
			}
		})
	}
}

func TestAnAnswerExpires(t *testing.T) {
	t.Parallel()
	var a answers
	now := time.Now()
	a.keep("a.io", nil, now, time.Minute)
	if _, ok := a.find("a.io/app", now.Add(59*time.Second)); !ok {
		t.Error("it is forgotten")
	}
	if _, ok := a.find("a.io/app", now.Add(time.Minute)); ok {
		t.Error("it is kept")
	}
	a.keep("b.io", nil, now.Add(time.Minute), time.Minute)
	if len(a.known) != 1 {
		t.Errorf("there are %d", len(a.known))
	}
}

func TestNoProviders(t *testing.T) {
	t.Parallel()
	var p *Providers
	if all, err := p.Credentials(t.Context(), "a.io/app"); all != nil || err != nil {
		t.Errorf("there are %v: %v", all, err)
	}
}
