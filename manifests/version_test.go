package manifests

import (
	"os"
	"strings"
	"testing"
)

func TestTheVersionIsThatOfTheRules(t *testing.T) {
	t.Parallel()
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if release := strings.TrimSuffix(KubernetesVersion, "+podkeeper"); !strings.Contains(string(mod), "\tk8s.io/kubernetes "+release+"\n") {
		t.Errorf("the rules are not those of %s", release)
	}
}
