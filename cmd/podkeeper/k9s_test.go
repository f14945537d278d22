package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// TestK9sShowsPods has k9s on a terminal show Pods, and go on where the API was killed. One is made, in a module that requires it, by
// go build github.com/derailed/k9s
func TestK9sShowsPods(t *testing.T) {
	t.Parallel()
	binary := os.Getenv("PODKEEPER_TEST_K9S")
	if binary == "" {
		t.Skip("PODKEEPER_TEST_K9S names no k9s")
	}
	k := launch(t).kubectl()
	for _, name := range []string{"first", "second", "third"} {
		k.write(name+".yaml", web(name))
	}
	k.all(
		row{"apply -f first.yaml", "created"},
		row{"wait --for=condition=Ready pod/first", "condition met"},
	)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "script", "-qfc", fmt.Sprintf("stty rows 40 cols 160; exec %s --kubeconfig %s -A -c pods", binary, k.path("root", "kubeconfig")), "/dev/null")
	cmd.Env = append(os.Environ(), "HOME="+k.dir, "K9S_CONFIG_DIR="+k.dir, "TERM=xterm-256color")
	said := &syncBuffer{}
	cmd.Stdout, cmd.Stderr = said, said
	keys, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = keys.Close(); _ = cmd.Wait() })
	k.hears(said, `(?s)first.*Running`)
	k.all(row{"apply -f second.yaml", "created"})
	k.hears(said, "second")
	k.killAPI()
	k.all(row{"apply -f third.yaml", "created"})
	k.hears(said, "third")
}
