// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package osc

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// Several extensions configure the hosts of one upstream. Containerd tries them in order, so they are ordered from near
// to far:
//
//  1. hosts on the node itself, such as those of a peer-to-peer extension,
//  2. caches,
//  3. mirrors,
//  4. other hosts,
//  5. the server, which is the upstream.
//
// Admission refuses an upstream that is both cached and mirrored, but tolerates it in a Shoot that does not change. Then
// both webhooks add hosts to one entry, and the last one to leave it cleans up.
//
// A host of others with the URL of a mirror takes the place of the mirror and keeps its other fields, and it stays when
// the mirror goes.
//
// Containerd reads the entry for all upstreams, _default, only where there is none for the upstream. So an entry that
// this extension adds starts with the hosts of _default that are on the node; otherwise it would hide them.
//
// # Caches
//
// A cache is added to an entry only if the entry has other hosts. Otherwise its hosts.toml is installed by a unit: see
// hosts.go.
//
// # Readiness probe
//
// With a readiness probe, the node agent writes hosts.toml only when all hosts of the entry respond. So one host that
// is down would keep a node from using the others, and the reconciliation of the node from completing. Besides, the
// node agent probes all hosts of an entry with the CAs of the first host that has any, so a host with a public CA
// beside a cache with TLS never passes. So an entry with hosts of this extension has no probe. Containerd itself goes
// on to the next host.
//
// # Own hosts
//
// Gardenlet writes OperatingSystemConfigs from scratch, but other writers do not, and the webhook is called for these as
// well. Then the hosts that it added before are still there, possibly with endpoints that no longer exist, beside hosts
// that belong to others. Nothing in a host names its author: the URL of a mirror is whatever its owner wrote, and caches
// may share their port with others. So an annotation of the OperatingSystemConfig records what was added to each entry.
// The node agent does not get the annotation. In addition, hosts that trust a CA file of this extension are its own, even
// if the annotation is missing.
//
// Gardenlet keeps the annotation when it overwrites the rest. Then it describes an earlier content, while the same
// servers, probes or even URLs may come from others. So the annotation counts only if all hosts that it records are still
// there, unchanged; otherwise the content was written from scratch.

// allUpstreams is the upstream of the entry that containerd reads for upstreams without an entry.
const allUpstreams = "_default"

// contribution is what an extension added to the entry of an upstream.
type contribution struct {
	// Created is true if the extension created the entry.
	Created bool `json:"created,omitempty"`
	// Hosts are the hashes of the hosts: owners write their URLs, and annotations are limited in size.
	Hosts []string `json:"hosts"`
	// Peers are the hashes of the hosts that were copied from the entry for all upstreams.
	Peers []string `json:"peers,omitempty"`
	// Server is the server of the entry, nil if it was there before.
	Server *string `json:"server,omitempty"`
	// ReplacedServer is the server that Server replaced.
	ReplacedServer *string `json:"replacedServer,omitempty"`
	// ReadinessProbe is false if the extension switched the probe off, true if an earlier version switched it on, and nil
	// otherwise.
	ReadinessProbe *bool `json:"readinessProbe,omitempty"`
}

// addRegistries merges the registries into those of an OperatingSystemConfig. It returns the caches that have no entry.
func (c nodeConfig) addRegistries(osc *extensionsv1alpha1.OperatingSystemConfig) (installed ownHosts, err error) {
	registries := &osc.Spec.CRIConfig.Containerd.Registries
	before, others := recorded(osc, c.annotation), recorded(osc, c.other.annotation)
	peers := localHosts(*registries)

	// created reports for entries from which hosts were withdrawn whether the extension created them.
	created := map[string]bool{}
	for i := range *registries {
		entry := &(*registries)[i]
		added, recorded := before[entry.Upstream]
		if c.withdraw(entry, added, others[entry.Upstream], peers) {
			created[entry.Upstream] = added.Created || !recorded
		}
	}
	after := map[string]contribution{}
	for _, wanted := range c.registries {
		i := slices.IndexFunc(*registries, func(entry extensionsv1alpha1.RegistryConfig) bool { return entry.Upstream == wanted.Upstream })
		alone := i < 0 || created[wanted.Upstream] && len((*registries)[i].Hosts) == 0
		if c.caches && alone && len(peers) == 0 {
			if err := installed.add(wanted, c.connections[wanted.Upstream]); err != nil {
				return ownHosts{}, err
			}
			continue
		}
		if i < 0 {
			i = len(*registries)
			*registries = append(*registries, extensionsv1alpha1.RegistryConfig{Upstream: wanted.Upstream})
			created[wanted.Upstream] = true
		}
		other := others[wanted.Upstream]
		if added := c.merge(&(*registries)[i], wanted, other, peers); len(added.Hosts) > 0 {
			added.Created = created[wanted.Upstream] || other.Created
			after[wanted.Upstream] = added
		}
	}
	// Another extension may have added its hosts for all upstreams to an entry because this extension had created it.
	*registries = slices.DeleteFunc(*registries, func(entry extensionsv1alpha1.RegistryConfig) bool {
		_, used := after[entry.Upstream]
		return created[entry.Upstream] && !used && len(without(entry.Hosts, peers)) == 0
	})
	return installed, c.record(osc, after)
}

// recorded returns what an annotation says was added to each entry, or nothing if the content has been written from
// scratch since.
func recorded(osc *extensionsv1alpha1.OperatingSystemConfig, annotation string) map[string]contribution {
	var contributions map[string]contribution
	// An annotation that cannot be read is treated like a missing one: refusing the request would not repair it.
	if err := json.Unmarshal([]byte(osc.Annotations[annotation]), &contributions); err != nil {
		return nil
	}
	present := map[string][]string{}
	for _, entry := range osc.Spec.CRIConfig.Containerd.Registries {
		present[entry.Upstream] = append(present[entry.Upstream], hashes(entry.Hosts)...)
	}
	for upstream, added := range contributions {
		for _, host := range added.Hosts {
			if !slices.Contains(present[upstream], host) {
				return nil
			}
		}
	}
	return contributions
}

// added reports whether a host is among those that the contributor added.
func (c contributor) added(host extensionsv1alpha1.RegistryHost, hosts []string) bool {
	return slices.Contains(hosts, hash(host)) || slices.ContainsFunc(host.CACerts, c.ownsFile)
}

// shares reports whether the other extension of this project has hosts in an entry.
func (c nodeConfig) shares(entry *extensionsv1alpha1.RegistryConfig, other contribution) bool {
	return slices.ContainsFunc(entry.Hosts, func(host extensionsv1alpha1.RegistryHost) bool { return c.other.added(host, other.Hosts) })
}

// withdraw removes what the extension added to an entry. It reports whether there were hosts among it.
func (c nodeConfig) withdraw(entry *extensionsv1alpha1.RegistryConfig, added, other contribution, peers []extensionsv1alpha1.RegistryHost) bool {
	before := len(entry.Hosts)
	entry.Hosts = slices.DeleteFunc(entry.Hosts, func(host extensionsv1alpha1.RegistryHost) bool { return c.added(host, added.Hosts) })
	withdrawn := len(entry.Hosts) < before
	if c.shares(entry, other) {
		return withdrawn
	}
	entry.Hosts = slices.DeleteFunc(entry.Hosts, func(host extensionsv1alpha1.RegistryHost) bool { return slices.Contains(added.Peers, hash(host)) })
	// Others that joined an entry of this extension rely on its server.
	joined := added.Created && len(without(entry.Hosts, peers)) > 0
	if added.Server != nil && ptr.Equal(entry.Server, added.Server) && !joined {
		entry.Server = added.ReplacedServer
	}
	if added.ReadinessProbe != nil && *added.ReadinessProbe == ptr.Deref(entry.ReadinessProbe, false) {
		setProbe(entry, !*added.ReadinessProbe)
	}
	return withdrawn
}

// merge adds the configuration of an upstream to its entry. It returns what it added, without hosts if others have
// already added all of them; then the entry is left as it is.
func (c nodeConfig) merge(entry *extensionsv1alpha1.RegistryConfig, own extensionsv1alpha1.RegistryConfig, other contribution, peers []extensionsv1alpha1.RegistryHost) contribution {
	peers = without(peers, entry.Hosts)
	var hosts, added []extensionsv1alpha1.RegistryHost
	for _, host := range own.Hosts {
		existing, ok := find(slices.Concat(peers, entry.Hosts), host.URL)
		switch {
		case !ok || c.mayReplace(existing, own.Upstream):
			hosts, added = append(hosts, host), append(added, host)
		case !isLocal(existing):
			hosts = append(hosts, existing)
		}
	}
	if len(added) == 0 {
		return contribution{}
	}
	peers = without(peers, hosts)
	entry.Hosts = without(entry.Hosts, hosts)
	shared := c.shares(entry, other)
	place := 0
	for i, host := range entry.Hosts {
		if isLocal(host) && !c.other.added(host, other.Hosts) || !c.caches && c.other.added(host, other.Hosts) {
			place = i + 1
		}
	}
	entry.Hosts = slices.Concat(peers, entry.Hosts[:place], hosts, entry.Hosts[place:])

	result := contribution{Hosts: hashes(added), Peers: hashes(peers)}
	if shared {
		result.Peers = append(result.Peers, other.Peers...)
		result.Server, result.ReplacedServer = other.Server, other.ReplacedServer
	}
	// The server of a cache may be another one than the default for the upstream.
	if !ptr.Equal(entry.Server, own.Server) && (c.caches || !shared) {
		result.Server, result.ReplacedServer = own.Server, entry.Server
		entry.Server = own.Server
	}
	if ptr.Deref(entry.ReadinessProbe, false) {
		// In a shared entry, the other extension has switched it off.
		if !shared {
			result.ReadinessProbe = new(false)
		}
		setProbe(entry, false)
	}
	return result
}

// mayReplace reports whether the extension may replace a host that has the URL of one of its own, but is not known as its
// own: no others add the URLs of caches, and other implementations of this extension use CA files of the upstream.
func (c nodeConfig) mayReplace(host extensionsv1alpha1.RegistryHost, upstream string) bool {
	return c.caches || slices.ContainsFunc(host.CACerts, func(path string) bool {
		return strings.HasPrefix(path, certificatesDirectory+upstream+"/")
	})
}

func find(hosts []extensionsv1alpha1.RegistryHost, url string) (extensionsv1alpha1.RegistryHost, bool) {
	i := slices.IndexFunc(hosts, func(host extensionsv1alpha1.RegistryHost) bool { return host.URL == url })
	if i < 0 {
		return extensionsv1alpha1.RegistryHost{}, false
	}
	return hosts[i], true
}

func setProbe(entry *extensionsv1alpha1.RegistryConfig, on bool) {
	entry.ReadinessProbe = nil
	if on {
		entry.ReadinessProbe = new(true)
	}
}

// record writes the annotation, or removes it if the extension added nothing.
func (c nodeConfig) record(osc *extensionsv1alpha1.OperatingSystemConfig, added map[string]contribution) error {
	if len(added) == 0 {
		delete(osc.Annotations, c.annotation)
		return nil
	}
	data, err := json.Marshal(added)
	if err != nil {
		return fmt.Errorf("encode annotation %s: %w", c.annotation, err)
	}
	metav1.SetMetaDataAnnotation(&osc.ObjectMeta, c.annotation, string(data))
	return nil
}

// without returns the hosts whose URLs are not among those of others.
func without(hosts, others []extensionsv1alpha1.RegistryHost) []extensionsv1alpha1.RegistryHost {
	return slices.DeleteFunc(slices.Clone(hosts), func(host extensionsv1alpha1.RegistryHost) bool {
		return slices.ContainsFunc(others, func(other extensionsv1alpha1.RegistryHost) bool { return other.URL == host.URL })
	})
}

// localHosts returns the hosts for all upstreams that are on the node.
func localHosts(registries []extensionsv1alpha1.RegistryConfig) []extensionsv1alpha1.RegistryHost {
	var hosts []extensionsv1alpha1.RegistryHost
	for _, entry := range registries {
		if entry.Upstream != allUpstreams {
			continue
		}
		for _, host := range entry.Hosts {
			if isLocal(host) {
				hosts = append(hosts, host)
			}
		}
	}
	return hosts
}

// isLocal reports whether a host is on the node itself.
func isLocal(host extensionsv1alpha1.RegistryHost) bool {
	parsed, err := url.Parse(host.URL)
	if err != nil {
		return false
	}
	if strings.EqualFold(parsed.Hostname(), "localhost") {
		return true
	}
	address, err := netip.ParseAddr(parsed.Hostname())
	return err == nil && address.IsLoopback()
}

func hashes(hosts []extensionsv1alpha1.RegistryHost) []string {
	all := make([]string, 0, len(hosts))
	for _, host := range hosts {
		all = append(all, hash(host))
	}
	return all
}

// hash returns a hash of all fields of a host.
func hash(host extensionsv1alpha1.RegistryHost) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %t", host.URL, host.Capabilities, host.CACerts, ptr.Deref(host.OverridePath, false)))
	return hex.EncodeToString(sum[:8])
}
