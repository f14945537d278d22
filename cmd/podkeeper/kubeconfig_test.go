package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/cert"

	podnode "github.com/podkeeper/podkeeper/agent/node"
	"github.com/podkeeper/podkeeper/pki"
)

// withCertificates is a root directory as an agent with --api-address leaves it.
func withCertificates(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	_, err := pki.Renew(pki.Config{
		Dir: pkiDir(dir), Kubeconfig: kubeconfigFile(dir), Address: "127.0.0.1:7443", Write: podnode.WriteDurably, Log: slog.New(slog.DiscardHandler),
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// runCommand runs one and answers what it prints, and says.
func runCommand(args ...string) (out, words string, err error) {
	var outBuffer, wordsBuffer bytes.Buffer
	cmd := command()
	cmd.SetArgs(args)
	cmd.SetOut(&outBuffer)
	cmd.SetErr(&wordsBuffer)
	err = cmd.Execute()
	return outBuffer.String(), wordsBuffer.String(), err
}

func TestKubeconfigsOfPeople(t *testing.T) {
	t.Parallel()
	dir := withCertificates(t)
	for sentence, c := range map[string]struct {
		args                   []string
		user, rights, says, in string
	}{
		"the administrator's":               {nil, "admin", "system:masters", ": everything. The agent renews", "default"},
		"one for everything":                {[]string{"--for", "ann"}, "ann", "system:masters", "For ann, until " + time.Now().AddDate(0, 0, 365).Format(time.DateOnly) + ": everything.", "default"},
		"one for a namespace":               {[]string{"--for", "ann", "--namespace", "web"}, "ann", "podkeeper:admin:web", ": everything of the namespace web.", "web"},
		"one to look":                       {[]string{"--for", "bob", "--read-only"}, "bob", "podkeeper:view", ": read everything but Secrets.", "default"},
		"one to look at a single namespace": {[]string{"--for", "bob", "--read-only", "-n", "web"}, "bob", "podkeeper:view:web", ": read everything of the namespace web but Secrets.", "web"},
	} {
		out, words, err := runCommand(append([]string{"kubeconfig", "--root-dir", dir}, c.args...)...)
		if err != nil {
			t.Errorf("%s: %v", sentence, err)
			continue
		}
		if !strings.Contains(words, c.says) || !strings.Contains(words, "export KUBECONFIG=") {
			t.Errorf("%s: it says %s", sentence, words)
		}
		config, err := clientcmd.Load([]byte(out + words)) // as with 2>&1
		if err != nil {
			t.Fatal(err)
		}
		context := config.Contexts[config.CurrentContext]
		if config.Clusters[context.Cluster].Server != "https://127.0.0.1:7443" || context.AuthInfo != c.user || context.Namespace != c.in {
			t.Errorf("%s: %s", sentence, out)
		}
		if got := organization(t, config.AuthInfos[c.user].ClientCertificateData); got != c.rights {
			t.Errorf("%s: it has the rights %s", sentence, got)
		}
	}
}

// organization is what a certificate's subject has of it.
func organization(t *testing.T, certificate []byte) string {
	t.Helper()
	c, err := cert.ParseCertsPEM(certificate)
	if err != nil || len(c) != 1 {
		t.Fatal(c, err)
	}
	return strings.Join(c[0].Subject.Organization, ",")
}

func TestKubeconfigsThatAreNotMade(t *testing.T) {
	t.Parallel()
	dir, none, lost := withCertificates(t), t.TempDir(), withCertificates(t)
	if err := os.RemoveAll(pkiDir(lost)); err != nil {
		t.Fatal(err)
	}
	for sentence, c := range map[string]struct {
		args []string
		want string
	}{
		"where no agent has made one":     {[]string{"--root-dir", none}, "kubeconfig: no such file or directory: the agent writes it when it runs with --api-address"},
		"nor for somebody":                {[]string{"--root-dir", none, "--for", "ann"}, "the agent writes it when it runs with --api-address"},
		"where the CA is lost":            {[]string{"--root-dir", lost, "--for", "ann"}, "the agent writes it when it runs with --api-address"},
		"for nobody in a namespace":       {[]string{"--root-dir", dir, "--namespace", "web"}, "name who, with --for"},
		"for nobody who only looks":       {[]string{"--root-dir", dir, "--read-only"}, "name who, with --for"},
		"for a namespace that cannot be":  {[]string{"--root-dir", dir, "--for", "ann", "--namespace", "a/b"}, `namespace "a/b": a lowercase RFC 1123 label`},
		"for a name that is Kubernetes'":  {[]string{"--root-dir", dir, "--for", "system:admin"}, "must not begin with system:"},
		"for what looks like an argument": {[]string{"--root-dir", dir, "ann"}, `unknown command "ann"`},
	} {
		out, _, err := runCommand(append([]string{"kubeconfig"}, c.args...)...)
		if err == nil || !strings.Contains(err.Error(), c.want) || out != "" {
			t.Errorf("%s: it prints %q and says %v", sentence, out, err)
		}
	}
	if err := explain(fmt.Errorf("read it: %w", fs.ErrPermission)); !strings.Contains(err.Error(), "try again as root") {
		t.Errorf("who is not root is told %v", err)
	}
}

func TestKubectlUsesTheNodesKubeconfigUnlessAnotherIsNamed(t *testing.T) {
	t.Parallel()
	own := kubeconfigFile(withCertificates(t))
	for sentence, c := range map[string]struct {
		environment, args []string
		named             bool
	}{
		"where none is named":                      {[]string{"HOME=/x"}, []string{"get", "pods"}, true},
		"where an empty one is":                    {[]string{"KUBECONFIG="}, nil, true},
		"not where the environment names one":      {[]string{"KUBECONFIG=/x"}, nil, false},
		"not where a flag does":                    {nil, []string{"get", "--kubeconfig", "/x"}, false},
		"not where a flag does, in one word":       {nil, []string{"--kubeconfig=/x"}, false},
		"where a command for a container names it": {nil, []string{"exec", "p", "--", "kubectl", "--kubeconfig=/x"}, true},
	} {
		got, err := kubectlEnvironment(c.environment, c.args, own)
		if named := slices.Contains(got, "KUBECONFIG="+own); err != nil || named != c.named {
			t.Errorf("%s: %q, %v", sentence, got, err)
		}
	}
	if _, err := kubectlEnvironment(nil, nil, own+"-none"); err == nil || !strings.Contains(explain(err).Error(), "--api-address") {
		t.Errorf("where there is none: %v", err)
	}
}

func TestKubectlIsWhatIsInstalledBesidePodkeeper(t *testing.T) {
	if errors.Is(lab.err, errSkip) {
		t.Skip(lab.err)
	} else if lab.err != nil {
		t.Fatal(lab.err)
	}
	dir, err := os.MkdirTemp(labDir, "kubectl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	program := filepath.Join(dir, "podkeeper")
	if err := os.Link(lab.podkeeper, program); err != nil {
		t.Skip(err)
	}
	run := func() string {
		cmd := exec.Command(program, "kubectl", "get", "--help", "-o", "x y", "--", "--for")
		cmd.Env = []string{"KUBECONFIG=/own"}
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	if says := run(); !strings.Contains(says, dir+"/podkeeper-api, which brings kubectl along and is installed beside podkeeper: no such file") {
		t.Errorf("where it is not there: %s", says)
	}
	if err := os.Symlink("/bin/echo", filepath.Join(dir, apiProgramName)); err != nil {
		t.Fatal(err)
	}
	if says := run(); says != "kubectl get --help -o x y -- --for\n" {
		t.Errorf("it is given %s", says)
	}
}
