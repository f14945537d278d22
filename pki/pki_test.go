package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/util/keyutil"
)

var (
	start = time.Date(2027, time.March, 1, 12, 0, 0, 0, time.UTC)
	day   = 24 * time.Hour
)

// stored is a directory of certificates.
type stored struct {
	t   *testing.T
	cfg Config
	log *bytes.Buffer
}

func store(t *testing.T) *stored {
	s := &stored{t: t, log: &bytes.Buffer{}}
	root := t.TempDir()
	s.cfg = Config{
		Dir: filepath.Join(root, "pki"), Kubeconfig: filepath.Join(root, "kubeconfig"), Address: "127.0.0.1:7443", Hosts: []string{"n1"},
		Log: slog.New(slog.NewTextHandler(s.log, nil)),
		Write: func(file string, content []byte) error {
			return errors.Join(os.MkdirAll(filepath.Dir(file), 0o750), os.WriteFile(file, content, 0o600))
		},
	}
	s.renew(start)
	return s
}

func (s *stored) renew(now time.Time) *Serving {
	s.t.Helper()
	serving, err := Renew(s.cfg, now)
	if err != nil {
		s.t.Fatal(err)
	}
	return serving
}

func (s *stored) files() map[string]string {
	s.t.Helper()
	found := map[string]string{}
	names, err := filepath.Glob(filepath.Join(s.cfg.Dir, "*"))
	for _, file := range append(names, s.cfg.Kubeconfig) {
		content, readErr := os.ReadFile(file)
		err = errors.Join(err, readErr)
		found[filepath.Base(file)] = string(content)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return found
}

// changed are the names of files that are others than before.
func (s *stored) changed(before map[string]string) []string {
	var names []string
	for name, content := range s.files() {
		if before[name] != content {
			names = append(names, name)
		}
	}
	return slices.Sorted(slices.Values(names))
}

func (s *stored) write(name, content string) {
	s.t.Helper()
	if err := s.cfg.Write(s.cfg.file(name), []byte(content)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stored) remove(names ...string) {
	s.t.Helper()
	for _, name := range names {
		if err := os.Remove(s.cfg.file(name)); err != nil {
			s.t.Fatal(err)
		}
	}
}

func TestWhatIsMadeAnew(t *testing.T) {
	t.Parallel()
	const everything = "admin.crt admin.key ca.crt ca.key kubeconfig sa.key sa.pub server.crt server.key"
	const server, admin = "server.crt server.key", "admin.crt admin.key kubeconfig"
	for sentence, c := range map[string]struct {
		do     func(s *stored)
		after  time.Duration
		made   string
		reason string
	}{
		"all is well: nothing":                        {after: 200 * day},
		"a certificate that expires within a third":   {after: 250 * day, made: admin + " " + server, reason: "it expires soon"},
		"one that has expired":                        {after: 500 * day, made: admin + " " + server, reason: "it has expired"},
		"one from the future, as the clock was wrong": {after: -10 * day, made: "admin.crt admin.key ca.crt kubeconfig server.crt server.key", reason: "it is not valid yet"},
		"a CA that expires goes on with its key":      {after: 8 * 365 * day, made: "admin.crt admin.key ca.crt kubeconfig server.crt server.key", reason: "it expires soon"},
		"a CA whose certificate is lost, too":         {do: func(s *stored) { s.remove("ca.crt") }, made: "ca.crt kubeconfig", reason: "it has no certificate"},
		"a CA that is gone: all but tokens": {do: func(s *stored) { s.remove("ca.crt", "ca.key") },
			made: "admin.crt admin.key ca.crt ca.key kubeconfig server.crt server.key", reason: "it is of another CA"},
		"a certificate that is missing":           {do: func(s *stored) { s.remove("server.crt") }, made: server, reason: "it is missing"},
		"a key that is missing":                   {do: func(s *stored) { s.remove("admin.key") }, made: admin, reason: "it is missing"},
		"a certificate that is broken":            {do: func(s *stored) { s.write("server.crt", "x") }, made: server, reason: "failed to find any PEM data"},
		"a key of another certificate":            {do: func(s *stored) { s.write("server.key", s.files()["admin.key"]) }, made: server, reason: "private key does not match"},
		"the certificate of somebody else":        {do: swap, made: server, reason: "it is for CN=admin,O=system:masters"},
		"other hosts":                             {do: func(s *stored) { s.cfg.Hosts = []string{"n2"} }, made: server, reason: "it is for other hosts"},
		"another address":                         {do: func(s *stored) { s.cfg.Address = "192.0.2.1:7443" }, made: "kubeconfig " + server, reason: "it is for other hosts"},
		"another port":                            {do: func(s *stored) { s.cfg.Address = "127.0.0.1:7444" }, made: "kubeconfig"},
		"a kubeconfig that is broken, as it was":  {do: func(s *stored) { s.write("../kubeconfig", "x") }},
		"a key of tokens that is missing":         {do: func(s *stored) { s.remove("sa.key") }, made: "sa.key sa.pub", reason: "it is missing"},
		"a key of tokens that is broken":          {do: func(s *stored) { s.write("sa.key", "x") }, made: "sa.key sa.pub", reason: "does not contain a valid"},
		"a public key that is missing, as it was": {do: func(s *stored) { s.remove("sa.pub") }},
		"everything, where all of it is lost": {do: func(s *stored) { s.remove(strings.Fields(strings.Replace(everything, "kubeconfig ", "", 1))...) },
			made: everything, reason: "it is missing"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			s := store(t)
			before := s.files()
			if c.do != nil {
				c.do(s)
			}
			s.log.Reset()
			serving := s.renew(start.Add(c.after))
			left := maps.Clone(before)
			if got := strings.Join(s.changed(left), " "); got != c.made {
				t.Errorf("made: %q, want %q", got, c.made)
			}
			if !strings.Contains(s.log.String(), c.reason) || c.reason == "" && strings.Contains(s.log.String(), "reason") {
				t.Errorf("the log does not say %q:\n%s", c.reason, s.log)
			}
			now := s.files()
			if string(serving.Certificate) != now["server.crt"] || string(serving.Key) != now["server.key"] ||
				string(serving.ClientCA) != now["ca.crt"] || string(serving.TokenKey) != now["sa.pub"] {
				t.Error("what is to be served with is not what is in the files")
			}
			if s.renew(start.Add(c.after)); s.changed(now) != nil {
				t.Errorf("made again at once: %v", s.changed(now))
			}
			s.trusted(start.Add(c.after))
		})
	}
}

// swap puts the administrator's certificate and key in place of the server's.
func swap(s *stored) {
	files := s.files()
	s.write("server.crt", files["admin.crt"])
	s.write("server.key", files["admin.key"])
}

// trusted checks what clients and servers check of the certificates.
func (s *stored) trusted(now time.Time) {
	s.t.Helper()
	files, roots := s.files(), x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(files["ca.crt"]))
	for name, usage := range map[string]x509.ExtKeyUsage{"server": x509.ExtKeyUsageServerAuth, "admin": x509.ExtKeyUsageClientAuth} {
		pair, err := tls.X509KeyPair([]byte(files[name+".crt"]), []byte(files[name+".key"]))
		if err == nil {
			_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
		}
		if err != nil {
			s.t.Errorf("%s: %v", name, err)
		}
		if name == "server" {
			host, _, _ := net.SplitHostPort(s.cfg.Address)
			for _, host := range append(s.cfg.Hosts, "127.0.0.1", "::1", "localhost", host) {
				if err := pair.Leaf.VerifyHostname(host); err != nil {
					s.t.Error(err)
				}
			}
		}
	}
}

func TestACAThatCannotBeReadIsAnErrorAndStays(t *testing.T) {
	t.Parallel()
	for sentence, c := range map[string]struct {
		do   func(s *stored)
		want string
	}{
		"its key is lost":            {func(s *stored) { s.remove("ca.key") }, "ca.key: no such file"},
		"its key is broken":          {func(s *stored) { s.write("ca.key", "x") }, "failed to find any PEM data in key input"},
		"its certificate is broken":  {func(s *stored) { s.write("ca.crt", "x") }, "failed to find any PEM data in certificate input"},
		"both are broken":            {func(s *stored) { s.write("ca.crt", "x"); s.write("ca.key", "x") }, "failed to find any PEM data"},
		"all that is left is broken": {func(s *stored) { s.remove("ca.crt"); s.write("ca.key", "x") }, "error reading private key file"},
		"its key is another one":     {func(s *stored) { s.write("ca.key", s.files()["admin.key"]) }, "private key does not match"},
		"it is the server's, no CA's": {func(s *stored) {
			s.write("ca.crt", s.files()["server.crt"])
			s.write("ca.key", s.files()["server.key"])
		}, "is no CA's certificate"},
		"its certificate is a folder":   {func(s *stored) { s.remove("ca.crt"); s.cfg.must(os.Mkdir(s.cfg.file("ca.crt"), 0o700)) }, "is a directory"},
		"its certificate is a bad link": {func(s *stored) { s.remove("ca.crt"); s.cfg.must(os.Symlink("nowhere", s.cfg.file("ca.crt"))) }, "put back"},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			s := store(t)
			c.do(s)
			before, _ := os.ReadFile(s.cfg.file("ca.key"))
			_, err := Renew(s.cfg, start)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "remove both to have a new CA") {
				t.Errorf("it says %v", err)
			}
			if errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%v is taken for no CA", err)
			}
			if after, _ := os.ReadFile(s.cfg.file("ca.key")); !bytes.Equal(before, after) {
				t.Error("the key is another one")
			}
		})
	}
}

// must ends a test whose files cannot be made.
func (Config) must(err error) {
	if err != nil {
		panic(err)
	}
}

func TestWhatTheCAHasSignedStaysValidWhenItIsRenewed(t *testing.T) {
	t.Parallel()
	s := store(t)
	late := start.Add(authorityLife*2/3 - 10*day)
	pair, err := Person(s.cfg.Dir, "ann", Everything, late)
	if err != nil {
		t.Fatal(err)
	}
	late = late.Add(20 * day)
	s.renew(late)
	roots, oldRoots := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(s.files()["ca.crt"]))
	oldRoots.AppendCertsFromPEM(pair.Authority)
	leaf := parsed(t, pair.Certificate)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: late, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Errorf("the new CA does not know what the old one has signed: %v", err)
	}
	if _, err := parsed(t, []byte(s.files()["server.crt"])).Verify(x509.VerifyOptions{Roots: oldRoots, CurrentTime: late}); err != nil {
		t.Errorf("who has the old CA does not know the new server: %v", err)
	}
	if bytes.Equal(pair.Authority, []byte(s.files()["ca.crt"])) {
		t.Error("the CA was not renewed")
	}
}

func parsed(t *testing.T, certificate []byte) *x509.Certificate {
	t.Helper()
	c, err := parse(certificate)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestWhatWasCutOffIsMadeWhole(t *testing.T) {
	t.Parallel()
	s := store(t)
	s.remove("ca.crt", "ca.key", "server.crt")
	write := s.cfg.Write
	err := io.ErrShortWrite
	for tries := 0; err != nil && tries < 10; tries++ {
		room := 2 // files
		s.cfg.Write = func(file string, content []byte) error {
			if room--; room < 0 {
				return io.ErrShortWrite
			}
			return write(file, content)
		}
		if _, err = Renew(s.cfg, start); err != nil && !errors.Is(err, io.ErrShortWrite) {
			t.Fatal(err)
		}
	}
	if err != nil {
		t.Error("it never becomes whole")
	}
	s.trusted(start)
}

func TestTheKeyOfTokensIsWhatKubernetesReads(t *testing.T) {
	t.Parallel()
	s := store(t)
	if _, err := keyutil.PrivateKeyFromFile(s.cfg.file("sa.key")); err != nil {
		t.Error(err)
	}
	if keys, err := keyutil.PublicKeysFromFile(s.cfg.file("sa.pub")); err != nil || len(keys) != 1 {
		t.Errorf("%v, %v", keys, err)
	}
}
