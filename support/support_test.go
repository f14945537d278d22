package support

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// planted is a secret that no pattern knows, and must be nowhere.
const planted = "gnu-stilt-42-harbour"

// unpack answers the files of an archive, and whether only its owner may read them.
func unpack(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(zip); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil || header.Mode != 0o600 {
			t.Errorf("%s: mode %o, %v", header.Name, header.Mode, err)
		}
		files[strings.TrimPrefix(header.Name, "folder/")] = string(content)
	}
}

func written(t *testing.T, r *Redactor, steps ...Step) (files map[string]string, missing []string) {
	t.Helper()
	var out bytes.Buffer
	missing, err := Write(t.Context(), &out, "folder", steps, r)
	if err != nil {
		t.Fatal(err)
	}
	return unpack(t, out.Bytes()), missing
}

func TestSecretsAreLeftOutByWhereTheyStand(t *testing.T) {
	t.Parallel()
	encoded := base64.StdEncoding.EncodeToString([]byte(planted))
	quoted, _ := json.Marshal(fmt.Sprintf(`{"spec":{"containers":[{"env":[{"name":"INNER","value":%q}]}]}}`, planted))
	for name, c := range map[string]struct{ file, text, stays string }{
		"a variable of a container":      {"a.json", `{"spec":{"containers":[{"name":"app","env":[{"name":"KEEP","value":"` + planted + `"}]}]}}`, `"name": "KEEP"`},
		"a variable of an init one":      {"a.json", `{"spec":{"initContainers":[{"env":[{"name":"KEEP","value":"` + planted + `"}]}]}}`, `"name": "KEEP"`},
		"a variable in the OCI's form":   {"a.json", `{"process":{"env":["KEEP=` + planted + `"]}}`, `KEEP=(left out)`},
		"a Secret":                       {"a.json", `{"kind":"Secret","metadata":{"name":"keep","annotations":{"x":"` + planted + `"}},"data":{"k":"` + encoded + `"},"stringData":{"k":"` + planted + `"}}`, `"name": "keep"`},
		"a Secret in a list":             {"a.json", `{"kind":"List","items":[{"kind":"Secret","metadata":{"name":"keep"},"data":{"k":"` + encoded + `"}}]}`, `"name": "keep"`},
		"a ConfigMap":                    {"a.json", `{"kind":"ConfigMap","metadata":{"name":"keep"},"data":{"k":"` + planted + `"}}`, `"name": "keep"`},
		"what was applied last":          {"a.json", `{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":` + string(quoted) + `}}}`, `INNER`},
		"an annotation that is a token":  {"a.json", `{"metadata":{"annotations":{"example.com/token":"` + planted + `","keep":"this"}}}`, `"keep": "this"`},
		"a header of a probe":            {"a.json", `{"livenessProbe":{"httpGet":{"path":"/keep","httpHeaders":[{"name":"X-Key","value":"` + planted + `"}]}}}`, `"path": "/keep"`},
		"an end of a container":          {"a.json", `{"terminated":{"exitCode":1,"reason":"Error","message":"` + planted + `"}}`, `"reason": "Error"`},
		"a password of a CNI plugin":     {"a.json", `{"plugins":[{"type":"keep","policy":{"type":"k8s","k8s_auth_token":"` + planted + `"}}]}`, `"type": "keep"`},
		"credentials for a registry":     {"a.json", `{"auths":{"keep.example":{"auth":"` + encoded + `"}}}`, `keep.example`},
		"a key of a kubeconfig":          {"a.json", `{"users":[{"name":"keep","user":{"client-key-data":"` + encoded + `","token":"` + planted + `"}}]}`, `"name": "keep"`},
		"an option in a text":            {"a.txt", "keep --password=" + planted + " this", "keep --password=(left out) this"},
		"an option apart in a text":      {"a.txt", "keep --token " + planted + " this", "keep --token (left out) this"},
		"an assignment, quoted":          {"a.txt", `keep msg="x" db_password="` + planted + `" this`, `db_password="(left out)" this`},
		"an assignment in JSON's quotes": {"a.json", `{"line":"keep {\"apiKey\": \"` + planted + `\"} this"}`, "this"},
		"an address":                     {"a.txt", "pull https://ann:" + planted + "@keep.example/x", "pull https://(left out)@keep.example/x"},
		"a header in a text":             {"a.txt", "Authorization: Bearer " + planted + "\nkeep", "keep"},
		"a private key":                  {"a.txt", "keep\n-----BEGIN EC PRIVATE KEY-----\n" + planted + "\n-----END EC PRIVATE KEY-----\nthis", "keep\n(left out)\nthis"},
		"a private key that was cut off": {"a.txt", "keep\n-----BEGIN PRIVATE KEY-----\n" + planted + "\n", "keep\n"},
		"a web token":                    {"a.txt", "keep eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0xx.c2ln" + strings.ReplaceAll(planted, "-", "") + " this", "keep (left out) this"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clean, err := (&Redactor{}).Clean(c.file, []byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			for _, form := range []string{planted, encoded, strings.ReplaceAll(planted, "-", "")} {
				if strings.Contains(string(clean), form) {
					t.Errorf("it is still there:\n%s", clean)
				}
			}
			if !strings.Contains(string(clean), c.stays) {
				t.Errorf("%q has gone, too:\n%s", c.stays, clean)
			}
		})
	}
}

func TestWhatTellsNoSecretStays(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"why a container cannot start": `{"exitCode":128,"reason":"StartError","message":"exec: no such file"}`,
		"the name of a Secret":         `{"volumes":[{"name":"v","secret":{"secretName":"web-tls"}}],"imagePullSecrets":[{"name":"pull"}]}`,
		"where a variable is from":     `{"env":[{"name":"A","valueFrom":{"secretKeyRef":{"key":"k","name":"n"}}}]}`,
		"large numbers":                `{"generation":9007199254740993,"memory":1.5}`,
		"a command":                    `{"command":["sh","-c","sleep 3600; echo <done> && true"]}`,
		"a message":                    `{"message":"references non-existent secret key: password"}`,
		"an event about a Secret":      `{"message":"MountVolume.SetUp failed for volume \"v\" : secret \"web-tls\" not found"}`,
	} {
		var want, got any
		clean, err := (&Redactor{}).Clean("a.json", []byte(text))
		if err := errors.Join(err, json.Unmarshal([]byte(text), &want), json.Unmarshal(clean, &got)); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) || strings.Contains(text, "9007199254740993") && !strings.Contains(string(clean), "9007199254740993") {
			t.Errorf("%s: %s", name, clean)
		}
	}
	if clean, err := (&Redactor{Output: true}).Clean("a.json", []byte(`{"exitCode":1,"message":"said"}`)); err != nil || !strings.Contains(string(clean), "said") {
		t.Errorf("what containers have written, where it is asked for: %s, %v", clean, err)
	}
}

func TestSecretsThatAreKnownAreLeftOutWhereverTheyStand(t *testing.T) {
	t.Parallel()
	encoded := base64.StdEncoding.EncodeToString([]byte(planted))
	lines := planted + "\nsecond " + planted
	for name, learn := range map[string]func(*Redactor){
		"of a Secret": func(r *Redactor) { r.Learn([]byte("kind: Pod\n---\nkind: Secret\ndata: {k: " + encoded + "}\n")) },
		"of a Secret in a List": func(r *Redactor) {
			r.Learn([]byte("kind: List\nitems:\n- {kind: Secret, stringData: {k: " + planted + "}}\n"))
		},
		"of one after a broken one": func(r *Redactor) {
			r.Learn([]byte("{{{\n---\nkind: Secret\nstringData: {k: " + planted + "}\n"))
		},
		"of several lines": func(r *Redactor) {
			r.Learn(fmt.Appendf(nil, "kind: Secret\nstringData: {k: %q}\n", lines))
		},
		"of a variable": func(r *Redactor) {
			r.Learn([]byte("kind: Pod\nspec: {containers: [{env: [{name: A, value: " + planted + "}]}]}\n"))
		},
		"of a record": func(r *Redactor) {
			r.Learn([]byte(`{"version":1,"pod":{"spec":{"containers":[{"env":[{"name":"A","value":"` + planted + `"}]}]}}}`))
		},
		"for a registry": func(r *Redactor) {
			r.LearnAll(fmt.Appendf(nil, `{"auths":{"x.example":{"auth":%q}}}`, base64.StdEncoding.EncodeToString([]byte("ann:"+planted))))
		},
		"for a registry, in a Secret": func(r *Redactor) {
			inner := fmt.Sprintf(`{"auths":{"x.example":{"auth":%q}}}`, base64.StdEncoding.EncodeToString([]byte("ann:"+planted)))
			r.Learn(fmt.Appendf(nil, "kind: Secret\ndata: {.dockerconfigjson: %s}\n", base64.StdEncoding.EncodeToString([]byte(inner))))
		},
		"of a kubeconfig": func(r *Redactor) {
			r.Learn([]byte("kind: Config\nusers: [{name: ann, user: {token: " + planted + "}}]\n"))
		},
	} {
		r := &Redactor{}
		learn(r)
		for file, text := range map[string]string{"a.txt": "it says " + planted + " or " + encoded, "a.json": `{"command":["` + planted + `"],"` + planted + `":1}`} {
			clean, err := r.Clean(file, []byte(text))
			if err != nil || strings.Contains(string(clean), planted) || strings.Contains(string(clean), encoded) {
				t.Errorf("%s, in %s: %s, %v", name, file, clean, err)
			}
		}
	}
	r := &Redactor{}
	r.Learn([]byte("kind: Secret\nstringData: {on: yes1, port: '5432'}\n"))
	if clean, err := r.Clean("a.txt", []byte("port 5432, yes1")); err != nil || string(clean) != "port 5432, yes1" {
		t.Errorf("values that are too short to tell anything: %s, %v", clean, err)
	}
}

// Whatever a secret consists of, it is not there in a form that it is usually written in.
func TestAnySecretIsLeftOut(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.StringMatching(`[!-~]{8,20}( [!-~"\\<>&]{8,20})?`).Draw(t, "secret")
		if strings.Contains(LeftOut, secret) || strings.HasPrefix(secret, "-----") {
			return
		}
		manifest, _ := json.Marshal(map[string]any{"kind": "Secret", "stringData": map[string]string{"k": secret}})
		r := &Redactor{}
		r.Learn(manifest)
		inJSON, _ := json.Marshal(map[string]string{"command": "x " + secret + " y"})
		for file, text := range map[string]string{"a.txt": fmt.Sprintf("x %s y %q", secret, secret), "a.json": string(inJSON)} {
			clean, err := r.Clean(file, []byte(text))
			if err != nil || strings.Contains(string(clean), secret) {
				t.Fatalf("%s: %s, %v", file, clean, err)
			}
		}
	})
}

func TestOfWhatIsNoJSONNothingIsLeft(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{"env":[{"name":"A","value":"` + planted, `{} {"value":"` + planted + `"}`, ""} {
		files, missing := written(t, &Redactor{}, Step{Name: "step", Do: func(_ context.Context, b *Bag) error {
			b.Add("a.json", []byte(text))
			return nil
		}})
		if _, is := files["a.json"]; is || len(missing) != 1 || !strings.Contains(missing[0], "a.json is left out") {
			t.Errorf("%q: %v, %q", text, files, missing)
		}
	}
}

func TestAStepThatFailsLeavesALineAndTheRestGoesOn(t *testing.T) {
	t.Parallel()
	r := &Redactor{}
	r.Learn([]byte("kind: Secret\nstringData: {k: " + planted + "}\n"))
	files, missing := written(t, r,
		Step{Name: "one", Do: func(_ context.Context, b *Bag) error {
			b.Add("/one.txt", []byte("one"))
			b.Fail(errors.New("half of it"))
			return errors.New("it broke: " + planted)
		}},
		Step{Name: "two", Do: func(context.Context, *Bag) error { panic("two") }},
		Step{Name: "three", Do: func(ctx context.Context, b *Bag) error {
			b.Command(ctx, "none.txt", "there-is-no-such-program")
			b.Command(ctx, "said.txt", "sh", "-c", "echo said; exit 3")
			b.Add("twice.txt", []byte("a"))
			b.Add("twice.txt", []byte("b"))
			return nil
		}})
	want := []string{
		"one: half of it", "one: it broke: (left out)", "three: sh -c echo said; exit 3: exit status 3", "three: there-is-no-such-program is not installed", "two: panic: two",
	}
	if !slices.Equal(missing, want) || files[ErrorsFile] != strings.Join(want, "\n")+"\n" {
		t.Errorf("missing is %q, and in the archive %q", missing, files[ErrorsFile])
	}
	if files["one.txt"] != "one" || !strings.HasPrefix(files["said.txt"], "said\n") || files["twice.txt"]+files["twice.txt.2"] != "ab" {
		t.Errorf("the files are %q", files)
	}
}

func TestAStepThatHangsIsLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		begin := time.Now()
		files, missing := written(t, &Redactor{},
			Step{Name: "hangs", Time: time.Minute, Do: func(_ context.Context, b *Bag) error {
				b.Add("before.txt", []byte("before"))
				<-release
				b.Add("late.txt", nil)
				return nil
			}},
			Step{Name: "goes on", Do: func(_ context.Context, b *Bag) error {
				b.Add("other.txt", []byte("other"))
				return nil
			}})
		if took := time.Since(begin); took != time.Minute || files["before.txt"] != "before" || files["other.txt"] != "other" {
			t.Errorf("after %s: %q", took, files)
		}
		if !slices.Equal(missing, []string{"hangs: it did not end in 1m0s, and is left behind"}) {
			t.Errorf("missing is %q", missing)
		}
		close(release)
		synctest.Wait()
	})
}

func TestWhatIsTooLongIsCutBetweenLines(t *testing.T) {
	t.Parallel()
	line := strings.Repeat("x", 100) + "\n"
	r := &Redactor{}
	files, _ := written(t, r, Step{Name: "long", Do: func(ctx context.Context, b *Bag) error {
		b.Add("beginning.txt", []byte(strings.Repeat(line, MaxFile/100)))
		b.Command(ctx, "end.txt", "sh", "-c", "yes "+line[:100]+" | head -n 300000; echo last")
		return nil
	}})
	for name, text := range files {
		for got := range strings.Lines(text) {
			if got != line && got != "last\n" && !strings.HasPrefix(got, "(") {
				t.Fatalf("%s has the line %q", name, got)
			}
		}
		if len(text) > MaxFile+200 || len(text) < MaxFile-200 {
			t.Errorf("%s has %d bytes", name, len(text))
		}
	}
	if len(files) != 2 || !strings.HasSuffix(files["end.txt"], "last\n") || !strings.HasPrefix(files["beginning.txt"], line) {
		t.Errorf("there are %d files", len(files))
	}
}

func TestOnlyFilesAreRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.Mkdir(in("volumes"), 0o700), os.WriteFile(in("volumes/key"), []byte(planted), 0o600), os.WriteFile(in("a"), []byte("one\ntwo\nthree"), 0o600)); err != nil {
		t.Fatal(err)
	}
	files, missing := written(t, &Redactor{}, Step{Name: "files", Do: func(ctx context.Context, b *Bag) error {
		b.Files(ctx, "x", in("*"))
		b.Sections("sections.txt", []string{in("a"), in("volumes"), in("none")}, 4)
		b.List(ctx, "list.txt", func(path string) bool { return filepath.Base(path) == "volumes" }, dir)
		return nil
	}})
	if len(missing) != 1 || !strings.Contains(missing[0], "it is no file") || files["x"+in("a")] != "one\ntwo\nthree" || files["sections.txt"] != "== "+in("a")+"\none\n" {
		t.Errorf("missing %q of %q", missing, files)
	}
	if list := files["list.txt"]; !strings.Contains(list, in("volumes")+"\n") || strings.Contains(list, "key") {
		t.Errorf("the list is %s", list)
	}
	if end, err := ReadEnd(in("a"), 9); err != nil || string(end) != "three" {
		t.Errorf("the end is %q, %v", end, err)
	}
}

// full is a disk on which nothing has room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestAnArchiveThatCannotBeWrittenIsAnError(t *testing.T) {
	t.Parallel()
	_, err := Write(t.Context(), full{}, "folder", []Step{{Name: "one", Do: func(_ context.Context, b *Bag) error {
		b.Add("a.txt", []byte("a"))
		return nil
	}}}, &Redactor{})
	if err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("it says %v", err)
	}
}
