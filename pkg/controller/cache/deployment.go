// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/credentials"
)

// deployment is a cache with the inputs for its objects.
type deployment struct {
	component.Values
	// Deployed are the objects, apart from the Service, of a cache that stays as it is deployed because one of its
	// Secrets cannot be used. Only its certificate is renewed. Nil means that the objects are built from Values.
	Deployed []client.Object
}

// ServesTLS reports whether the cache serves TLS. If it keeps its deployed objects, they decide, not the configuration.
func (d deployment) ServesTLS() bool {
	if d.Deployed != nil {
		return slices.ContainsFunc(d.Deployed, component.IsTLSSecret)
	}
	return d.Values.ServesTLS()
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
		if component.IsTLSSecret(object) {
			objects[i] = component.TLSSecret(d.Values)
		}
	}
	return objects, nil
}

// changeable returns the caches without those that stay as they are deployed.
func changeable(caches []deployment) []deployment {
	return slices.DeleteFunc(slices.Clone(caches), func(cache deployment) bool { return cache.Deployed != nil })
}

// complete returns the caches with the inputs that depend on the Shoot: their previous credentials, the sizes of
// volumes that cannot grow, by the names of the caches, and their certificates.
func complete(caches []deployment, found observed, stuck map[string]resource.Quantity, issued certificates) []deployment {
	out := slices.Clone(caches)
	for i := range out {
		cache := &out[i]
		deployed, status := found.credentials[cache.Name()], found.statuses[cache.Cache.Upstream]
		if cache.Credential != nil {
			cache.PreviousCredential = deployed[""].Next(*cache.Credential, status.Credentials).Previous
		}
		cache.RepositoryCredentials = slices.Clone(cache.RepositoryCredentials)
		for i := range cache.RepositoryCredentials {
			credential := &cache.RepositoryCredentials[i]
			before := statusOf(status, credential.Repositories)
			credential.Previous = deployed[credentials.Prefix(credential.Repositories)].Next(credential.Credential, before).Previous
		}
		if size, ok := stuck[cache.Name()]; ok {
			volume := *cache.Cache.Volume
			volume.Size = &size
			cache.Cache.Volume = &volume
		}
		cache.Certificate = issued.of(*cache)
	}
	return out
}
