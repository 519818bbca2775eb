// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package registry

import "k8s.io/apimachinery/pkg/util/validation/field"

// ConnectionPurpose is what a cache needs a Secret for to connect to its upstream. It reads well after "the" in an
// error.
type ConnectionPurpose string

// The purposes of Secrets for connections.
const (
	CABundle          ConnectionPurpose = "CA bundle"
	ClientCertificate ConnectionPurpose = "client certificate"
	ProxyCredential   ConnectionPurpose = "credential for the proxies"
)

// ConnectionPurposes are all of them, in the order of [RegistryCache.ConnectionReferences].
func ConnectionPurposes() []ConnectionPurpose {
	return []ConnectionPurpose{CABundle, ClientCertificate, ProxyCredential}
}

// Path returns the path of the field that references the Secret, below that of a cache, which may be nil.
func (p ConnectionPurpose) Path(cachePath *field.Path) *field.Path {
	switch p {
	case CABundle:
		return cachePath.Child("caBundleSecretReferenceName")
	case ClientCertificate:
		return cachePath.Child("clientCertificateSecretReferenceName")
	case ProxyCredential:
		return cachePath.Child("proxy", "secretReferenceName")
	}
	panic("unknown purpose " + string(p))
}

// Entry returns the name of the entry in spec.resources that references the Secret, nil if the cache has none.
func (p ConnectionPurpose) Entry(cache *RegistryCache) *string {
	switch p {
	case CABundle:
		return cache.CABundleSecretReferenceName
	case ClientCertificate:
		return cache.ClientCertificateSecretReferenceName
	case ProxyCredential:
		if cache.Proxy == nil {
			return nil
		}
		return cache.Proxy.SecretReferenceName
	}
	panic("unknown purpose " + string(p))
}

// +k8s:deepcopy-gen=false

// ConnectionReference is the reference of a cache to a Secret for its connections.
type ConnectionReference struct {
	Purpose ConnectionPurpose
	// Entry is the name of the entry in spec.resources.
	Entry string
}

// ConnectionReferences returns the references of the cache to Secrets for its connections.
func (c *RegistryCache) ConnectionReferences() []ConnectionReference {
	var references []ConnectionReference
	for _, purpose := range ConnectionPurposes() {
		if entry := purpose.Entry(c); entry != nil {
			references = append(references, ConnectionReference{Purpose: purpose, Entry: *entry})
		}
	}
	return references
}
