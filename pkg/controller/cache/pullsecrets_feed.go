// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/cacheserver/config"
	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/problem"
	"github.com/larder-project/larder/pkg/pullsecret"
	"github.com/larder-project/larder/pkg/upstream"
)

// limited returns the feed without the pull secrets whose docker configuration is too large, which stay as they are, and
// an error for each.
func limited(feed, before pullsecret.Feed) (pullsecret.Feed, []error) {
	var problems []error
	for i := range feed.Secrets {
		secret := &feed.Secrets[i]
		size := secret.ConfigSize()
		if size <= pullsecret.MaxConfig {
			continue
		}
		problems = append(problems, problem.Configuration(fmt.Errorf("pull secret %q would have %d bytes, more than the maximum of %d, with a credential for each repository; "+
			"use fewer repositories for each credential, or another pullSecret.name for some caches", secret.Name, size, pullsecret.MaxConfig)))
		secret.Registries = deployedRegistries(*secret, before)
	}
	return feed, problems
}

// deployedRegistries returns what a pull secret has for its registries.
func deployedRegistries(secret pullsecret.Secret, before pullsecret.Feed) []pullsecret.Registry {
	if i := indexOf(before, secret.Name); i >= 0 {
		return before.Secrets[i].Registries
	}
	registries := slices.Clone(secret.Registries)
	for i := range registries {
		registries[i].Connection = pullsecret.Connection{}
		registries[i].Credentials = slices.Clone(registries[i].Credentials)
		for j := range registries[i].Credentials {
			registries[i].Credentials[j].Material = nil
		}
	}
	return registries
}

// indexOf returns the index of the pull secret with a name, negative if there is none.
func indexOf(feed pullsecret.Feed, name string) int {
	return slices.IndexFunc(feed.Secrets, func(secret pullsecret.Secret) bool { return secret.Name == name })
}

// feedOf returns the feed for the configured caches. A cache that is not deployed, since one of its Secrets cannot be
// used, has a registry without material: its pull secret stays as it is, as its accounts do. Before is the feed that is
// deployed.
func feedOf(configured []registry.RegistryCache, in pullSecretInput, before pullsecret.Feed) pullsecret.Feed {
	var feed pullsecret.Feed
	byName := map[string]int{}
	for _, cache := range configured {
		deployed := deployment{Values: component.Values{Cache: cache}}
		if i := slices.IndexFunc(in.caches, func(d deployment) bool { return d.Cache.Upstream == cache.Upstream }); i >= 0 {
			deployed = in.caches[i]
		}
		feed.Accounts = append(feed.Accounts, accountsOf(deployed)...)
		wanted := cache.PullSecret
		if wanted == nil {
			continue
		}
		i, known := byName[wanted.Name]
		if !known {
			i = len(feed.Secrets)
			byName[wanted.Name] = i
			feed.Secrets = append(feed.Secrets, pullsecret.Secret{
				Name: wanted.Name, Namespaces: wanted.Namespaces, NamespaceSelector: wanted.NamespaceSelector,
				AddToDefaultServiceAccounts: wanted.AddToDefaultServiceAccounts,
			})
		}
		feed.Secrets[i].Registries = append(feed.Secrets[i].Registries, registryOf(deployed, in.found, before))
	}
	if len(feed.Accounts) > 0 {
		feed.CABundle = string(in.caBundle)
	}
	if len(feed.Accounts) > 0 && feed.CABundle == "" {
		feed.CABundle = before.CABundle // No cache with TLS is deployed.
	}
	return feed
}

// accountsOf returns the accounts of a cache.
func accountsOf(cache deployment) []pullsecret.Account {
	configured := cache.accounts()
	accounts := make([]pullsecret.Account, 0, len(configured))
	for _, account := range configured {
		accounts = append(accounts, pullsecret.Account{
			Cache: cache.Name(), Name: account.Name, SecretName: cache.Cache.AccountSecretName(account),
			Namespaces: account.Namespaces, Repositories: account.Repositories, Registry: registryFor(cache),
			RotationPeriod: ptr.Deref(account.RotationPeriod, metav1.Duration{}),
		})
	}
	return accounts
}

// registryFor returns the host and port of a cache for pods, as in its certificate.
func registryFor(cache deployment) string {
	return net.JoinHostPort(cache.ServiceName()+"."+component.Namespace+".svc", strconv.Itoa(config.Port))
}

// accountStatuses returns the status of a cache's accounts, nil without accounts.
func accountStatuses(cache deployment) []registry.AccountStatus {
	accounts := accountsOf(cache)
	statuses := slices.Grow([]registry.AccountStatus(nil), len(accounts))
	for _, account := range accounts {
		statuses = append(statuses, registry.AccountStatus{Name: account.Name, Registry: account.Registry, SecretName: account.SecretName})
	}
	return statuses
}

// registryOf returns the registry of a cache with the credentials that pods may have.
func registryOf(cache deployment, found observed, before pullsecret.Feed) pullsecret.Registry {
	status, deployed := found.status.caches[cache.Cache.Upstream], found.credentials[cache.Name()]
	r := pullsecret.Registry{Upstream: cache.Cache.Upstream, Host: apiHost(cache.Cache)}
	isIssued := false
	for _, repositories := range repositoriesOf(cache.Cache) {
		state := status.Credentials
		if len(repositories) > 0 {
			state = statusOf(status, repositories)
		}
		wanted, previous := cache.wantedCredential(repositories)
		isAccepted := wanted != nil && isAccepted(wanted, previous, deployed[credentials.Prefix(repositories)], state)
		published := before.Published(cache.Cache.PullSecret.Name, cache.Cache.Upstream, repositories)
		next := publish(wanted, isAccepted, published)
		next.Repositories = repositories
		isIssued = isIssued || next.Material != nil && !next.Material.IsStatic()
		r.Credentials = append(r.Credentials, next)
	}
	if isIssued {
		r.Connection = connectionOf(cache, before)
	}
	return r
}

// publish returns the credential that pods get: the wanted one once the upstream has accepted it, and until then the
// one that they have. If that is not known, because the Shoot was moved to this seed for example, they keep what they
// have.
func publish(wanted *credentials.Named, isAccepted bool, published *pullsecret.Credential) pullsecret.Credential {
	hasPublished := published != nil && published.Material != nil
	switch {
	case wanted == nil && published != nil:
		return *published
	case wanted == nil:
		return pullsecret.Credential{}
	case isAccepted,
		// The token of a workload identity may be newer.
		hasPublished && wanted.Same(credentials.Named{Name: published.Name, Material: *published.Material}):
		return pullsecret.Credential{Name: wanted.Name, Material: &wanted.Material}
	case hasPublished:
		return *published
	}
	return pullsecret.Credential{Name: wanted.Name}
}

// repositoriesOf returns the repositories of each credential of a cache, none for all repositories.
func repositoriesOf(cache registry.RegistryCache) [][]string {
	var all [][]string
	if cache.SecretReferenceName != nil {
		all = append(all, nil)
	}
	for _, credential := range cache.Credentials {
		all = append(all, credential.Repositories)
	}
	return all
}

// wantedCredential returns the credential for some repositories, or nil if it cannot be used, and the previous one.
func (d deployment) wantedCredential(repositories []string) (wanted, previous *credentials.Named) {
	if len(repositories) == 0 {
		return d.Credential, d.PreviousCredential
	}
	for i := range d.RepositoryCredentials {
		if credential := &d.RepositoryCredentials[i]; credentials.Prefix(credential.Repositories) == credentials.Prefix(repositories) {
			return credential.Credential, credential.Previous
		}
	}
	return nil, nil
}

// apiHost returns the host of the upstream's API without a port.
func apiHost(cache registry.RegistryCache) string {
	return upstream.Upstream(cache.Upstream).APIHost(ptr.Deref(cache.RemoteURL, ""))
}

// connectionOf returns how a cache connects to the services that issue its credentials. While the cache stays as it is
// deployed, since a Secret for its connection may be unusable, that does not change.
func connectionOf(cache deployment, before pullsecret.Feed) pullsecret.Connection {
	if i := indexOf(before, cache.Cache.PullSecret.Name); cache.Deployed != nil && i >= 0 {
		registries := before.Secrets[i].Registries
		if j := slices.IndexFunc(registries, func(r pullsecret.Registry) bool { return r.Upstream == cache.Cache.Upstream }); j >= 0 {
			return registries[j].Connection
		}
	}
	connection := pullsecret.Connection{CABundle: string(cache.Connection.CABundle)}
	if cache.Cache.Proxy == nil || cache.Cache.Proxy.HTTPSProxy == nil {
		return connection
	}
	connection.HTTPSProxy, connection.NoProxy = *cache.Cache.Proxy.HTTPSProxy, cache.Cache.Proxy.NoProxy
	if proxy, err := url.Parse(connection.HTTPSProxy); err == nil && cache.Connection.ProxyCredential != nil {
		proxy.User = url.UserPassword(cache.Connection.ProxyCredential.Username, cache.Connection.ProxyCredential.Password)
		connection.HTTPSProxy = proxy.String()
	}
	return connection
}
