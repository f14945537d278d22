package network

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	cnitypes "github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
)

// outputPatience is how long a plugin's output is waited for when the plugin itself has ended.
const outputPatience = time.Second

// plugins runs CNI plugins for libcni, whose own way waits for whatever a plugin has started, also when the plugin is given
// up: one that hangs would hold a Pod for ever. This one ends the plugin with all its children.
type plugins struct {
	*invoke.RawExec // finds plugins
	version.PluginDecoder
}

// ExecPlugin runs a plugin and answers what it says. Its own errors are a CNI error; where ctx ends before it, the error
// wraps that of ctx.
func (*plugins) ExecPlugin(ctx context.Context, path string, conf []byte, environ []string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = environ, bytes.NewReader(conf), &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = outputPatience
	err := cmd.Run()
	if err == nil {
		return stdout.Bytes(), nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("wait for plugin %s: %w", filepath.Base(path), ctx.Err())
	}
	said := &cnitypes.Error{}
	if json.Unmarshal(stdout.Bytes(), said) != nil || said.Msg == "" {
		said.Msg = strings.TrimSpace(fmt.Sprintf("%v: %s%s", err, stdout.Bytes(), stderr.Bytes()))
	}
	return nil, said
}
