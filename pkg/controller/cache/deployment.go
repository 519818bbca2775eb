// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry"
	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/credentials"
)

// deployment is a cache with the inputs for its objects.
type deployment struct {
	component.Values
	// Deployed are the objects, apart from the Service, of a cache that stays as it is deployed because something that all
	// its requests need cannot be used. Only its certificate, the authorities of nodes, and the tokens of its workload
	// identities are renewed. Nil means that the objects are built from Values.
	Deployed []client.Object
	// awaitsNodes means that the access mode Nodes takes effect later: see nodeaccess.go.
	awaitsNodes bool
}

// keep completes the values with what is deployed in place of what cannot be used, each reference by itself: the Secret
// of one team must not stop the rotation of another team's credential, nor the delivery of its tokens. It reports false
// if the cache has to be omitted: without what all its requests need, it is not deployed for the first time.
func (d *deployment) keep(objects []client.Object) bool {
	var (
		files      map[string][]byte
		connection component.Connection
	)
	for _, object := range objects {
		switch {
		case component.IsCredentialsSecret(object):
			files = object.(*corev1.Secret).Data
		case component.IsConnectionSecret(object):
			connection = component.ParseConnectionSecret(object.(*corev1.Secret))
		}
	}
	lacking := d.lacking()
	if lacking.credential {
		d.Credential, _ = credentials.FromFiles("", files)
	}
	for i := range d.RepositoryCredentials {
		if credential := &d.RepositoryCredentials[i]; credential.Credential == nil {
			credential.Credential, _ = credentials.FromFiles(credentials.Prefix(credential.Repositories), files)
		}
	}
	if lacking.caBundle {
		d.Connection.CABundle = connection.CABundle
	}
	if lacking.clientCertificate {
		d.Connection.ClientCertificate = connection.ClientCertificate
	}
	if lacking.proxyCredential {
		d.Connection.ProxyCredential = connection.ProxyCredential
	}
	if d.lacking() != (lacks{}) {
		d.Deployed = objects
		return d.Deployed != nil
	}
	return true
}

// lacks is what all requests of a cache need, but cannot be used.
type lacks struct {
	credential, caBundle, clientCertificate, proxyCredential bool
}

func (d *deployment) lacking() lacks {
	return lacks{
		credential:        d.Cache.SecretReferenceName != nil && d.Credential == nil,
		caBundle:          d.Cache.CABundleSecretReferenceName != nil && d.Connection.CABundle == nil,
		clientCertificate: d.Cache.ClientCertificateSecretReferenceName != nil && d.Connection.ClientCertificate == nil,
		proxyCredential:   d.Cache.Proxy != nil && d.Cache.Proxy.SecretReferenceName != nil && d.Connection.ProxyCredential == nil,
	}
}

// ServesTLS reports whether the cache serves TLS. If it keeps its deployed objects, they decide, not the configuration.
func (d deployment) ServesTLS() bool {
	if d.Deployed != nil {
		return slices.ContainsFunc(d.Deployed, component.IsTLSSecret)
	}
	return d.Values.ServesTLS()
}

// accessMode returns who may pull from the cache. If it keeps its deployed objects, they decide, not the configuration.
func (d deployment) accessMode() registry.AccessMode {
	if d.Deployed != nil {
		return component.AccessModeOf(d.Deployed)
	}
	return d.Cache.AccessMode()
}

// onlyForNodes reports whether nodes need a client certificate to pull from the cache.
func (d deployment) onlyForNodes() bool {
	return d.accessMode() == registry.AccessNodes
}

// accounts returns the accounts with which clients can pull from the cache.
func (d deployment) accounts() []registry.Account {
	if d.accessMode() == registry.AccessCluster || d.Deployed != nil && !component.HasAccounts(d.Deployed) {
		return nil
	}
	return d.Cache.Accounts
}

// objects returns the objects of the cache, apart from the Service.
func (d deployment) objects() ([]client.Object, error) {
	if d.Deployed == nil {
		return component.Objects(d.Values)
	}
	if d.ServesTLS() != (d.Certificate != nil) {
		return nil, fmt.Errorf("cache %s: a certificate is needed if and only if it serves TLS", d.Cache.Upstream)
	}
	objects := slices.Clone(d.Deployed)
	for i, object := range objects {
		switch {
		case component.IsTLSSecret(object):
			objects[i] = component.TLSSecret(d.Values)
		case component.IsCredentialsSecret(object):
			objects[i] = d.renewTokens(object.(*corev1.Secret))
		case d.Access != nil:
			objects[i] = component.WithClientCAs(object, d.Access.ClientCAs)
		}
	}
	return objects, nil
}

// renewTokens returns the deployed Secret with the credentials of a cache, with the present tokens of its workload
// identities. Those that are deployed expire within hours.
func (d deployment) renewTokens(deployed *corev1.Secret) *corev1.Secret {
	renewed := deployed.DeepCopy()
	renew := func(repositories []string, present *credentials.Named) {
		prefix := credentials.Prefix(repositories)
		wanted, previous := credentials.FromFiles(prefix, deployed.Data)
		if present != nil && wanted != nil && wanted.Same(*present) {
			maps.Copy(renewed.Data, credentials.Files(prefix, *present, previous))
		}
	}
	renew(nil, d.Credential)
	for _, credential := range d.RepositoryCredentials {
		renew(credential.Repositories, credential.Credential)
	}
	return renewed
}

// changeable returns the caches without those that stay as they are deployed.
func changeable(caches []deployment) []deployment {
	return slices.DeleteFunc(slices.Clone(caches), func(cache deployment) bool { return cache.Deployed != nil })
}

// complete returns the caches with the inputs that depend on the Shoot: their previous credentials, the sizes of
// volumes that cannot grow, by the names of the caches, their certificates, and what restricts access to them.
func complete(caches []deployment, found observed, stuck map[string]resource.Quantity, issued certificates) []deployment {
	out := slices.Clone(caches)
	for i := range out {
		cache := &out[i]
		deployed, status := found.credentials[cache.Name()], found.status.caches[cache.Cache.Upstream]
		if cache.Credential != nil {
			cache.PreviousCredential = deployed[""].Next(*cache.Credential, status.Credentials).Previous
		}
		cache.RepositoryCredentials = slices.Clone(cache.RepositoryCredentials)
		for i := range cache.RepositoryCredentials {
			credential := &cache.RepositoryCredentials[i]
			inShoot := deployed[credentials.Prefix(credential.Repositories)]
			if credential.Credential == nil {
				// After a change of seed, only the Shoot has what is deployed.
				credential.Credential = inShoot.Wanted
			}
			if credential.Credential != nil {
				credential.Previous = inShoot.Next(*credential.Credential, statusOf(status, credential.Repositories)).Previous
			}
		}
		if size, ok := stuck[cache.Name()]; ok {
			volume := *cache.Cache.Volume
			volume.Size = &size
			cache.Cache.Volume = &volume
		}
		cache.Certificate = issued.of(*cache)
		cache.awaitNodes(found.access, issued)
		if cache.RestrictsAccess() || cache.Deployed != nil {
			cache.Access = &component.Access{DebugToken: found.debugTokens[cache.Name()], ClientCAs: issued.caBundle}
		}
	}
	return out
}
