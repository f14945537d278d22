package pki

import (
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
)

func TestRights(t *testing.T) {
	t.Parallel()
	for sentence, c := range map[string]struct {
		namespace string
		readOnly  bool
		want      Rights
		says      string
	}{
		"everything":                    {want: "system:masters", says: "everything"},
		"everything in one namespace":   {namespace: "web", want: "podkeeper:admin:web", says: "everything of the namespace web"},
		"to read":                       {readOnly: true, want: "podkeeper:view", says: "read everything but Secrets"},
		"to read in one namespace":      {namespace: "web", readOnly: true, want: "podkeeper:view:web", says: "read everything of the namespace web but Secrets"},
		"none in what is no namespace":  {namespace: "we:b"},
		"none to read there, nor there": {namespace: "Web", readOnly: true},
	} {
		got, err := RightsIn(c.namespace, c.readOnly)
		if got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%s: %q, %v", sentence, got, err)
		}
		if err == nil && got.String() != c.says {
			t.Errorf("%s: it says %q", sentence, got)
		}
	}
}

func TestAPersonHasACertificateWithTheirNameAndRights(t *testing.T) {
	t.Parallel()
	s := store(t)
	pair, err := Person(s.cfg.Dir, "ann", "podkeeper:admin:web", start)
	if err != nil {
		t.Fatal(err)
	}
	leaf, roots := parsed(t, pair.Certificate), x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(s.files()["ca.crt"]))
	if got := leaf.Subject.String(); got != "CN=ann,O=podkeeper:admin:web" {
		t.Errorf("it is for %s", got)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: start, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err == nil {
		t.Error("a server can be run with it")
	}
	if want := start.Add(leafLife); !pair.Until.Equal(want) || !leaf.NotAfter.Equal(want) {
		t.Errorf("it is valid until %v, %v", pair.Until, leaf.NotAfter)
	}
}

func TestPeopleWhoGetNoCertificate(t *testing.T) {
	t.Parallel()
	s := store(t)
	none := store(t)
	none.remove("ca.crt", "ca.key")
	half := store(t)
	half.remove("ca.crt")
	for sentence, c := range map[string]struct {
		dir, name string
		want      string
		is        error
	}{
		"without a name":             {s.cfg.Dir, "", "must not be empty", nil},
		"with a space at the end":    {s.cfg.Dir, "ann ", "nor begin or end with a space", nil},
		"with a name of Kubernetes'": {s.cfg.Dir, "system:node:n1", "must not begin with system:", nil},
		"with a name that is long":   {s.cfg.Dir, strings.Repeat("n", 65), "at most 64 bytes", nil},
		"where there is no CA":       {none.cfg.Dir, "ann", "read CA", fs.ErrNotExist},
		"where it is being made":     {half.cfg.Dir, "ann", "read CA", fs.ErrNotExist},
		"where there is nothing":     {filepath.Join(s.cfg.Dir, "none"), "ann", "read CA", fs.ErrNotExist},
	} {
		_, err := Person(c.dir, c.name, Everything, start)
		if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v", sentence, err)
		}
	}
}

func TestKubectlReadsTheKubeconfig(t *testing.T) {
	t.Parallel()
	for address, server := range map[string]string{
		"127.0.0.1:7443": "https://127.0.0.1:7443", "[::1]:7443": "https://[::1]:7443", ":7443": "https://127.0.0.1:7443",
		"0.0.0.0:7443": "https://127.0.0.1:7443", "[::]:7443": "https://127.0.0.1:7443", "node.example:1": "https://node.example:1",
	} {
		s := store(t)
		s.cfg.Address = address
		s.renew(start)
		config, err := clientcmd.BuildConfigFromFlags("", s.cfg.Kubeconfig)
		if err != nil {
			t.Fatal(err)
		}
		files := s.files()
		if config.Host != server || string(config.CAData) != files["ca.crt"] || string(config.CertData) != files["admin.crt"] || string(config.KeyData) != files["admin.key"] {
			t.Errorf("%s: it is told %s and\n%s", address, config.Host, files["kubeconfig"])
		}
		loaded, err := clientcmd.LoadFromFile(s.cfg.Kubeconfig)
		if err != nil {
			t.Fatal(err)
		}
		context := loaded.Contexts[loaded.CurrentContext]
		if loaded.CurrentContext != "podkeeper" || context.AuthInfo != "admin" || context.Namespace != "default" {
			t.Errorf("%s: it is %s: %+v", address, loaded.CurrentContext, context)
		}
		got, until, err := ReadKubeconfig(s.cfg.Kubeconfig)
		if want := (Kubeconfig{server, "admin", "default"}); err != nil || got != want || !until.Equal(start.Add(leafLife)) {
			t.Errorf("it is read as %v, until %v, %v", got, until, err)
		}
	}
}

func TestAKubeconfigThatCannotBeRead(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if _, _, err := ReadKubeconfig(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
	const noCertificate = "clusters: [{name: podkeeper}]\nusers: [{name: admin}]\ncontexts: [{name: podkeeper}]\n"
	for text, want := range map[string]string{
		"kind: Config\n": "it is not as podkeeper writes it", "x": "cannot unmarshal", noCertificate: "it has no certificate",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := ReadKubeconfig(file); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "restart podkeeper") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestFilesAreHandedToAGroupThatCannotChangeThem(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("giving files to a group needs root")
	}
	const group = 65530
	s := store(t)
	dir := filepath.Join(t.TempDir(), "api")
	serving := s.renew(start)
	check := func() {
		t.Helper()
		if err := serving.Hand(dir, group); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]struct {
			mode    os.FileMode
			content []byte
		}{
			"": {os.ModeDir | 0o750, nil}, "tls.crt": {0o640, serving.Certificate}, "tls.key": {0o640, serving.Key},
			"client-ca.crt": {0o640, serving.ClientCA}, "sa.pub": {0o640, serving.TokenKey},
		} {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			st := info.Sys().(*syscall.Stat_t)
			if info.Mode() != want.mode || st.Uid != 0 || st.Gid != group {
				t.Errorf("%s is %v of %d:%d", name, info.Mode(), st.Uid, st.Gid)
			}
			if content, err := os.ReadFile(filepath.Join(dir, name)); name != "" && (err != nil || string(content) != string(want.content)) {
				t.Errorf("%s holds %q: %v", name, content, err)
			}
		}
		if left, _ := os.ReadDir(dir); len(left) != 4 {
			t.Errorf("there are %v", left)
		}
	}
	check()
	serving = s.renew(start.Add(300 * day))
	if err := os.Chmod(filepath.Join(dir, "sa.pub"), 0o600); err != nil {
		t.Fatal(err)
	}
	check()
}
