// Kubelab is Kubernetes in one file: etcd, every component and kubectl, chosen by the first argument.
//
// This program exists for the tests of irsa-sidecar, which need the real kubelet and API server on a machine without an
// image registry. Each folder is a module for one version, and links to this file. Upstream does not support imports of
// k8s.io/kubernetes, so each go.mod has replacements.
package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"

	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
)

const etcd = "etcd"

var components = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllers.NewControllerManagerCommand,
	"kube-proxy":              proxy.NewProxyCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kubectl":                 kubectl.NewDefaultKubectlCommand,
	"kubelet":                 newKubelet,
}

func main() {
	if len(os.Args) < 2 {
		complain()
	}
	// Each component gets arguments as if it were the whole program.
	os.Args = os.Args[1:]
	if os.Args[0] == etcd {
		etcdmain.Main(os.Args)
		return
	}
	component, known := components[os.Args[0]]
	if !known {
		complain()
	}
	os.Exit(cli.Run(component()))
}

func complain() {
	names := []string{etcd}
	for name := range components {
		names = append(names, name)
	}
	slices.Sort(names)
	fmt.Fprintf(os.Stderr, "usage: kubelab %s ARGUMENTS\n", strings.Join(names, "|"))
	os.Exit(2)
}
