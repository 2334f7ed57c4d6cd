package main

import (
	"slices"

	"github.com/cloudnativelabs/kube-router/v2/pkg/utils"
	"k8s.io/api/core/v1"
)

// This release enforces no IPv6 policy: its handler of that family gives sets names that differ from those in its rules
// (kube-router's issue 1653), and rejects the Pods' neighbour discovery. Later releases fixed both.

var families = map[v1.IPFamily]string{v1.IPv4Protocol: "inet", v1.IPv6Protocol: "inet6"}

// ownSets has the sets of one family, by their names in the rules. The embedded handler would also write the sets of the
// other family.
type ownSets struct {
	utils.IPSetHandler
	family string
}

func newSets() (map[v1.IPFamily]utils.IPSetHandler, error) {
	made := map[v1.IPFamily]utils.IPSetHandler{}
	for name, family := range families {
		handler, err := utils.NewIPSet(false)
		if err != nil {
			return nil, err
		}
		made[name] = ownSets{handler, family}
	}
	return made, nil
}

// RefreshSet adds the family to the kind, because both are arguments of `ipset create`.
func (s ownSets) RefreshSet(name string, entries [][]string, kind string) {
	s.IPSetHandler.RefreshSet(name, entries, kind+" family "+s.family)
}

// Save stores the existing sets.
func (s ownSets) Save() error {
	if err := s.IPSetHandler.Save(); err != nil {
		return err
	}
	for name, set := range s.Sets() {
		if !slices.Contains(set.Options, s.family) {
			delete(s.Sets(), name)
		}
	}
	return nil
}

// allowDiscovery puts a rule first in each chain of the controller, which keeps it until the controller stops.
func allowDiscovery(table utils.IPTablesHandler) error {
	for _, chain := range []string{"KUBE-ROUTER-INPUT", "KUBE-ROUTER-FORWARD", "KUBE-ROUTER-OUTPUT"} {
		if err := table.ClearChain("filter", chain); err != nil {
			return err
		}
		for _, kind := range []string{"neighbour-solicitation", "neighbour-advertisement"} {
			rule := []string{"-p", "ipv6-icmp", "-m", "icmp6", "--icmpv6-type", kind, "-j", "ACCEPT"}
			if err := table.Append("filter", chain, rule...); err != nil {
				return err
			}
		}
	}
	return nil
}
