// Policies enforces NetworkPolicies on one node: kube-router's controller for them, without its routes and its proxy.
//
// This program exists for the tests of irsa-sidecar, whose network plugin enforces no policies. It replaces kube-router's
// own program, which needs BGP and IPVS. The versions of Kubernetes' modules are the same as kubelab's, so most packages
// are compiled already.
package main

import (
	"flag"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/cloudnativelabs/kube-router/v2/pkg/controllers/netpol"
	"github.com/cloudnativelabs/kube-router/v2/pkg/healthcheck"
	"github.com/cloudnativelabs/kube-router/v2/pkg/options"
	"k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

func main() {
	config := options.NewKubeRouterConfig()
	config.EnableIPv4, config.EnableIPv6 = true, true
	flag.StringVar(&config.Kubeconfig, "kubeconfig", "", "how to reach the API server")
	flag.StringVar(&config.HostnameOverride, "node", "", "which node this is")
	services := flag.String("services", "", "the ranges of Services, one of each family")
	klog.InitFlags(nil)
	flag.Parse()
	config.ClusterIPCIDRs = strings.Split(*services, ",")

	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	stop := make(chan struct{})
	go func() {
		<-told
		close(stop)
	}()
	if err := enforce(config, stop); err != nil {
		klog.Exit(err)
	}
}

// enforce runs until a signal arrives, and then removes every rule.
func enforce(config *options.KubeRouterConfig, stop <-chan struct{}) error {
	access, err := clientcmd.BuildConfigFromFlags("", config.Kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(access)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods().Informer()
	namespaces := factory.Core().V1().Namespaces().Informer()
	policies := factory.Networking().V1().NetworkPolicies().Informer()
	factory.Start(stop)
	factory.WaitForCacheSync(stop)

	tables, _, err := netpol.NewIPTablesHandlers(config)
	if err != nil {
		return err
	}
	sets, err := newSets()
	if err != nil {
		return err
	}
	if err := allowDiscovery(tables[v1.IPv6Protocol]); err != nil {
		return err
	}
	controller, err := netpol.NewNetworkPolicyController(
		client, config, pods, policies, namespaces, &sync.Mutex{}, tables, sets)
	if err != nil {
		return err
	}
	for informer, handler := range map[cache.SharedIndexInformer]cache.ResourceEventHandler{
		pods:       controller.PodEventHandler,
		namespaces: controller.NamespaceEventHandler,
		policies:   controller.NetworkPolicyEventHandler,
	} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return err
		}
	}
	var running sync.WaitGroup
	running.Add(1)
	controller.Run(discarded(), stop, &running)
	running.Wait()
	controller.Cleanup()
	return nil
}

// discarded receives the heartbeats, because the controller blocks until they are received.
func discarded() chan<- *healthcheck.ControllerHeartbeat {
	beats := make(chan *healthcheck.ControllerHeartbeat)
	go func() {
		for range beats {
		}
	}()
	return beats
}
