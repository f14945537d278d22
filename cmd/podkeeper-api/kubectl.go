package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	kubernetes "k8s.io/component-base/version"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

// kubectl is kubectl itself, with the arguments after its name. It does not return where it fails.
func kubectl() {
	os.Args = os.Args[1:]
	_ = kubernetes.SetDynamicVersion("v0.0.0-master+podkeeper") // of a build that was not told one, which kubectl cannot read
	_, _ = logs.GlogSetter(cmd.GetLogVerbosity(os.Args))        // before the flags are parsed, as in kubectl's own main
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err)
	}
}
