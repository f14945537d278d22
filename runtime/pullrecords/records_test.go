package pullrecords_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"github.com/podkeeper/podkeeper/runtime/credentials"
	"github.com/podkeeper/podkeeper/runtime/pullrecords"
)

var (
	app   = pullrecords.Image{Asked: "a.io/app:v1", Name: "a.io/app:v1", ID: "sha256:1"}
	again = pullrecords.Image{Asked: "a.io/app:v2", Name: "a.io/app:v2", ID: "sha256:1"} // what it is by another tag
	newer = pullrecords.Image{Asked: "a.io/app:v3", Name: "a.io/app:v3", ID: "sha256:3"}
	moved = pullrecords.Image{Asked: "b.io/app:v1", Name: "b.io/app:v1", ID: "sha256:1"} // by another repository
)

// of is what a Secret holds.
func of(secret, password string) *credentials.Credential {
	return &credentials.Credential{
		Registry: "a.io", Username: "u", Password: password,
		Secret: credentials.Secret{Namespace: "shop", Name: secret, UID: "uid"},
	}
}

func open(t *testing.T, dir string, policy pullrecords.Policy) *pullrecords.Records {
	t.Helper()
	r, err := pullrecords.Open(dir, policy)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Unreadable(); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWhoMayUseAnImage(t *testing.T) {
	t.Parallel()
	mine, node := of("mine", "p"), &credentials.Credential{Registry: "a.io", Username: "node"}
	pull := func(i pullrecords.Image, by *credentials.Credential) func(*pullrecords.Records) error {
		return func(r *pullrecords.Records) error {
			if err := r.Begin(i.Name); err != nil {
				return err
			}
			return r.Complete(i, by)
		}
	}
	type steps []func(*pullrecords.Records) error
	for sentence, c := range map[string]struct {
		before steps
		image  pullrecords.Image
		has    *credentials.Credential
		want   bool
	}{
		"it was there before":                           {nil, app, nil, true},
		"a Secret has pulled it, and this Pod has none": {steps{pull(app, mine)}, app, nil, false},
		"a Secret has pulled it, and this Pod has it":   {steps{pull(app, mine)}, app, of("mine", "p"), true},
		"another Secret that holds the same":            {steps{pull(app, mine)}, app, of("other", "p"), true},
		"another Secret":                                {steps{pull(app, mine)}, app, of("other", "q"), false},
		"the same Secret, which holds something else":   {steps{pull(app, mine)}, app, of("mine", "q"), true},
		"the node's credentials are no Pod's":           {steps{pull(app, mine)}, app, &credentials.Credential{Username: "u", Password: "p"}, false},
		"nobody's credentials have pulled it":           {steps{pull(app, nil)}, app, nil, true},
		"the node's credentials have pulled it":         {steps{pull(app, node)}, app, nil, true},
		"first a Secret, then nobody's":                 {steps{pull(app, mine), pull(app, nil)}, app, nil, true},
		"first nobody's, then a Secret":                 {steps{pull(app, nil), pull(app, mine)}, app, nil, true},
		"two Secrets, the first":                        {steps{pull(app, mine), pull(app, of("other", "q"))}, app, mine, true},
		"two Secrets, the second":                       {steps{pull(app, mine), pull(app, of("other", "q"))}, app, of("other", "q"), true},
		"by another tag of the repository":              {steps{pull(app, mine)}, again, mine, true},
		"by a name in another repository":               {steps{pull(app, mine)}, moved, mine, false},
		"another image of the repository":               {steps{pull(app, mine), pull(newer, nil)}, app, nil, false},
		"it is being pulled":                            {steps{func(r *pullrecords.Records) error { return r.Begin(app.Name) }}, app, nil, false},
		"a pull of it has failed": {steps{func(r *pullrecords.Records) error {
			return first(r.Begin(app.Name), r.Fail(app.Name))
		}}, app, nil, true},
		"one pull of two has failed": {steps{func(r *pullrecords.Records) error {
			return first(r.Begin(app.Name), r.Begin(app.Name), r.Fail(app.Name))
		}}, app, nil, false},
		"nobody knows what a pull has brought": {steps{func(r *pullrecords.Records) error {
			return first(r.Begin(app.Name), r.Doubt(app.Name))
		}}, app, of("mine", "p"), false},
		"it was imported, and pulled once": {steps{pull(app, mine), func(r *pullrecords.Records) error {
			r.Preload(app.ID)
			return nil
		}}, app, nil, true},
		"the registry gives it to a Secret, too": {steps{pull(app, mine), func(r *pullrecords.Records) error {
			return r.Confirm(app, of("other", "q"))
		}}, app, of("other", "q"), true},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			r := open(t, dir, pullrecords.Policy{})
			for _, step := range c.before {
				if err := step(r); err != nil {
					t.Fatal(err)
				}
			}
			var has []credentials.Credential
			if c.has != nil {
				has = append(has, *c.has)
			}
			if got := r.Allows(c.image, has); got != c.want {
				t.Errorf("it may be used: %v", got)
			}
			if strings.Contains(sentence, "imported") {
				return // which is done at each start
			}
			if got := open(t, dir, pullrecords.Policy{}).Allows(c.image, has); got != c.want {
				t.Errorf("after a restart it may be used: %v", got)
			}
		})
	}
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// The record of one Secret must not be needed for ever by another that holds the same.
func TestASecretThatHoldsTheSameIsRemembered(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := open(t, dir, pullrecords.Policy{})
	if err := first(r.Begin(app.Name), r.Complete(app, of("mine", "p"))); err != nil {
		t.Fatal(err)
	}
	if !r.Allows(app, []credentials.Credential{*of("other", "p")}) || !r.Allows(app, []credentials.Credential{*of("mine", "q")}) {
		t.Fatal("it may not be used")
	}
	r = open(t, dir, pullrecords.Policy{})
	for _, c := range []*credentials.Credential{of("third", "p"), of("fourth", "q"), of("other", "new")} {
		if !r.Allows(app, []credentials.Credential{*c}) {
			t.Errorf("%v may not use it", c)
		}
	}
	if r.Allows(app, []credentials.Credential{*of("fifth", "r")}) {
		t.Error("anyone may use it")
	}
}

// Whoever is killed between the intent and the record leaves an image that is nobody's, and failing to pull it does not help.
func TestAPullThatWasCutOff(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := open(t, dir, pullrecords.Policy{}).Begin(app.Name); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r := open(t, dir, pullrecords.Policy{})
		if err := first(r.Begin(app.Name), r.Fail(app.Name)); err != nil {
			t.Fatal(err)
		}
		if r.Allows(app, nil) || r.Allows(app, []credentials.Credential{*of("mine", "p")}) {
			t.Fatal("it may be used")
		}
	}
	r := open(t, dir, pullrecords.Policy{})
	if err := first(r.Begin(app.Name), r.Complete(app, of("mine", "p"))); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "pulling")); len(left) > 0 {
		t.Errorf("there is left %v", left)
	}
	if r.Allows(app, nil) || !r.Allows(app, []credentials.Credential{*of("mine", "p")}) {
		t.Error("it is not whose pulled it")
	}
}

func TestARecordThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for sentence, content := range map[string]string{
		"nothing":              "",
		"half of it":           `{"kind": "ImagePulledRecord", "imageRef": "sha`,
		"one of another image": `{"kind": "ImagePulledRecord", "imageRef": "sha256:2", "credentialMapping": {"a.io/app": {"nodePodsAccessible": true}}}`,
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if r := open(t, dir, pullrecords.Policy{}); r.Confirm(app, nil) != nil || !r.Allows(app, nil) {
				t.Fatal("it may not be used")
			}
			files, err := filepath.Glob(filepath.Join(dir, "pulled", "*"))
			if err != nil || len(files) != 1 {
				t.Fatal(files, err)
			}
			if err := os.WriteFile(files[0], []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "pulled", ".sha256-half"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := pullrecords.Open(dir, pullrecords.Policy{})
			if err != nil || r.Unreadable() == nil || !strings.Contains(r.Unreadable().Error(), "pulled/sha256-") {
				t.Fatal(err, r.Unreadable())
			}
			if r.Allows(app, nil) {
				t.Error("it may be used")
			}
			if err := r.Confirm(app, nil); err != nil || !r.Allows(app, nil) {
				t.Error("it may never be used again", err)
			}
			if left, _ := os.ReadDir(filepath.Join(dir, "pulled")); len(left) != 1 {
				t.Errorf("there is %v", left)
			}
		})
	}
}

func TestRecordsHoldNoSecret(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := open(t, dir, pullrecords.Policy{})
	if err := first(r.Begin(newer.Name), r.Begin(app.Name), r.Complete(app, of("mine", "hunter2"))); err != nil {
		t.Fatal(err)
	}
	seen := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		seen++
		info, err := d.Info()
		text, readErr := os.ReadFile(path)
		if err != nil || readErr != nil || info.Mode() != 0o600 || strings.Contains(string(text), "hunter2") {
			t.Errorf("%s, of mode %v: %s: %v, %v", path, info.Mode(), text, err, readErr)
		}
		return nil
	})
	if err != nil || seen != 2 {
		t.Errorf("there are %d files: %v", seen, err)
	}
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	busybox := pullrecords.Image{Asked: "busybox:1.36", Name: "docker.io/library/busybox:1.36", ID: "sha256:b"}
	hub := []string{"docker.io/library/*"}
	for sentence, c := range map[string]struct {
		policy kubeletconfig.ImagePullCredentialsVerificationPolicy
		list   []string
		pulled bool // with a Secret; else it was there
		image  pullrecords.Image
		want   bool // anyone may use it
	}{
		"nothing is said, pulled":                         {"", nil, true, app, false},
		"nothing is said, preloaded":                      {"", nil, false, app, true},
		"but for the preloaded, pulled":                   {kubeletconfig.NeverVerifyPreloadedImages, nil, true, app, false},
		"but for the preloaded, preloaded":                {kubeletconfig.NeverVerifyPreloadedImages, nil, false, app, true},
		"never, pulled":                                   {kubeletconfig.NeverVerify, nil, true, app, true},
		"always, preloaded":                               {kubeletconfig.AlwaysVerify, nil, false, app, false},
		"but for a list, of which it is not one":          {kubeletconfig.NeverVerifyAllowlistedImages, []string{"b.io/app", "a.io/ap", "a.io/app/x"}, false, app, false},
		"but for a list with it":                          {kubeletconfig.NeverVerifyAllowlistedImages, []string{"b.io/app", "a.io/app"}, false, app, true},
		"but for a list with it, though pulled":           {kubeletconfig.NeverVerifyAllowlistedImages, []string{"a.io/app"}, true, app, true},
		"but for a list with its registry":                {kubeletconfig.NeverVerifyAllowlistedImages, []string{"a.io/*"}, false, app, true},
		"but for a list with the beginning of a registry": {kubeletconfig.NeverVerifyAllowlistedImages, []string{"a.i/*"}, false, app, false},
		"but for a list with its short name":              {kubeletconfig.NeverVerifyAllowlistedImages, []string{"busybox"}, false, busybox, true},
		"but for a list with its full name":               {kubeletconfig.NeverVerifyAllowlistedImages, hub, false, busybox, true},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			policy := pullrecords.Policy{Verification: c.policy, Allowlist: c.list}
			if err := first(policy.CheckVerification(), policy.CheckAllowlist()); err != nil {
				t.Fatal(err)
			}
			r := open(t, "", policy)
			if c.pulled {
				if err := first(r.Begin(c.image.Name), r.Complete(c.image, of("mine", "p"))); err != nil {
					t.Fatal(err)
				}
			}
			if got := r.Allows(c.image, nil); got != c.want {
				t.Errorf("anyone may use it: %v", got)
			}
		})
	}
}

func TestPoliciesThatAreNone(t *testing.T) {
	t.Parallel()
	if err := (pullrecords.Policy{Verification: "Sometimes"}).CheckVerification(); err == nil || !strings.Contains(err.Error(), `is "Sometimes": must be one of`) {
		t.Errorf("a policy that is none: %v", err)
	}
	if err := (pullrecords.Policy{Allowlist: []string{"a.io/app"}}).CheckAllowlist(); err == nil || !strings.Contains(err.Error(), "is only for") {
		t.Errorf("a list without the policy: %v", err)
	}
	for _, pattern := range []string{"", "*", "/*", " a.io/app", "a.io/app ", "a.io/*/app", "a.io/app*", "a.io/app:v1", "a.io/app@sha256:" + strings.Repeat("0", 64), "A.io/App"} {
		policy := pullrecords.Policy{Verification: kubeletconfig.NeverVerifyAllowlistedImages, Allowlist: []string{"a.io/app", pattern}}
		if err := policy.CheckAllowlist(); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("has %q", pattern)) {
			t.Errorf("%q is taken: %v", pattern, err)
		}
	}
}

func TestARecordGoesWithItsImage(t *testing.T) {
	t.Parallel()
	dir, away := t.TempDir(), errors.New("away")
	r := open(t, dir, pullrecords.Policy{})
	if r.Pulled(app) {
		t.Error("what nobody has pulled is told to be pulled")
	}
	if err := first(r.Begin(app.Name), r.Complete(app, of("mine", "p"))); err != nil {
		t.Fatal(err)
	}
	is := func(gone bool, err error) func() (bool, error) { return func() (bool, error) { return gone, err } }
	for _, step := range []struct {
		sentence string
		gone     func() (bool, error)
		want     error
		pulled   bool
	}{
		{"it is there by another name", is(false, nil), nil, true},
		{"nobody can tell", is(true, away), away, true},
		{"it is gone", is(true, nil), nil, false},
		{"it was gone already", is(true, nil), nil, false},
	} {
		if err := r.Forget(app.ID, step.gone); !errors.Is(err, step.want) {
			t.Errorf("%s: %v", step.sentence, err)
		}
		for _, records := range []*pullrecords.Records{r, open(t, dir, pullrecords.Policy{})} {
			if records.Pulled(app) != step.pulled {
				t.Errorf("%s: it is told to be pulled: %v", step.sentence, !step.pulled)
			}
		}
	}
	r.Preload(newer.ID)
	if err := first(r.Begin(newer.Name), r.Complete(newer, nil)); err != nil || r.Pulled(newer) {
		t.Errorf("what was imported counts as pulled: %v", err)
	}
}
