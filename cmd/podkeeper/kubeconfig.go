package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/podkeeper/podkeeper/pki"
)

// noKubeconfig says what is to be done where there is none.
const noKubeconfig = "the agent writes it when it runs with --api-address, such as 127.0.0.1:7443; name its --root-dir if that is another one"

func kubeconfigCommand() *cobra.Command {
	p := person{}
	cmd := &cobra.Command{
		Use: "kubeconfig", Short: "Print what kubectl needs to reach this node", Args: cobra.NoArgs,
		Long: `Print a kubeconfig: what kubectl, and every other client of Kubernetes, needs to reach
this node. Without --for it is the administrator's, who may do everything. With --for it
is a new one for somebody else: with --namespace for that namespace alone, with
--read-only to look and not to change, and without Secrets. The standard error stream
says what to do with it, and how long it is valid. Whoever has the file has the rights,
and one file cannot be taken back: only all of them, by a new CA.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, words, err := p.kubeconfig(time.Now())
			if err != nil {
				return explain(err)
			}
			if _, err := cmd.OutOrStdout().Write(file); err != nil {
				return fmt.Errorf("print kubeconfig: %w", err)
			}
			fmt.Fprintln(cmd.ErrOrStderr(), words)
			return nil
		},
	}
	cmd.Flags().StringVar(&p.name, "for", "", "who it is for: a name that logs and `kubectl auth whoami` show")
	cmd.Flags().StringVarP(&p.namespace, "namespace", "n", "", "for this namespace alone")
	cmd.Flags().BoolVar(&p.readOnly, "read-only", false, "to look and not to change, and without Secrets")
	cmd.Flags().StringVar(&p.rootDir, "root-dir", defaultRootDir, "the agent's root directory, where its CA is")
	return cmd
}

// person is who a kubeconfig is for: the administrator, where there is no name.
type person struct {
	name, namespace, rootDir string
	readOnly                 bool
}

// kubeconfig is the file, and what is said to who asked for it: comments, in case both end up in one file.
func (p person) kubeconfig(now time.Time) (file []byte, words string, err error) {
	admin := kubeconfigFile(p.rootDir)
	k, until, err := pki.ReadKubeconfig(admin)
	if err != nil {
		return nil, "", err
	}
	if p.name == "" {
		if p.namespace != "" || p.readOnly {
			return nil, "", errors.New("--namespace and --read-only are for somebody's own kubeconfig: name who, with --for")
		}
		file, err = os.ReadFile(admin)
		return file, fmt.Sprintf("# The administrator's, until %s: %s. The agent renews its own in time, and on this node that does:\n#   export KUBECONFIG=%s",
			until.Format(time.DateOnly), pki.Everything, admin), err
	}
	rights, err := pki.RightsIn(p.namespace, p.readOnly)
	if err != nil {
		return nil, "", err
	}
	pair, err := pki.Person(pkiDir(p.rootDir), p.name, rights, now)
	if err != nil {
		return nil, "", err
	}
	k.User, k.Namespace = p.name, cmp.Or(p.namespace, "default")
	file, err = k.Encode(pair)
	return file, fmt.Sprintf("# For %s, until %s: %s. Keep it in a file that nobody else can read, and use it:\n#   export KUBECONFIG=FILE",
		p.name, pair.Until.Format(time.DateOnly), rights), err
}

// explain says what to do about a file that is not there, or not for this user.
func explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: try again as root, or have root make you one of your own: podkeeper kubeconfig --for NAME", err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %s", err, noKubeconfig)
	}
	return err
}

func kubectlCommand() *cobra.Command {
	return &cobra.Command{
		Use: "kubectl ARGS...", Short: "Run kubectl on this node", DisableFlagParsing: true,
		Long: `Run kubectl, which podkeeper-api brings along, with all that follows. It uses
$KUBECONFIG or --kubeconfig where one is given, and else the node's administrator's,
` + defaultRootDir + `/kubeconfig.`,
		RunE: func(_ *cobra.Command, args []string) error {
			environment, err := kubectlEnvironment(os.Environ(), args, kubeconfigFile(defaultRootDir))
			if err != nil {
				return explain(err)
			}
			program := besideUs(apiProgramName)
			if err := syscall.Exec(program, append([]string{program, "kubectl"}, args...), environment); err != nil {
				return fmt.Errorf("run %s, which brings kubectl along and is installed beside podkeeper: %w", program, err)
			}
			return nil
		},
	}
}

// kubectlEnvironment names the node's own kubeconfig, unless another one is named.
func kubectlEnvironment(environment, args []string, kubeconfig string) ([]string, error) {
	for _, variable := range environment {
		if value, ok := strings.CutPrefix(variable, "KUBECONFIG="); ok && value != "" {
			return environment, nil
		}
	}
	for _, arg := range args {
		if arg == "--" {
			break // what follows is a command for a container
		}
		if arg == "--kubeconfig" || strings.HasPrefix(arg, "--kubeconfig=") {
			return environment, nil
		}
	}
	f, err := os.Open(kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("open kubeconfig: %w", err)
	}
	return append(environment, "KUBECONFIG="+kubeconfig), f.Close()
}
