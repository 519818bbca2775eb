// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// RegistryConfig lists the upstream registries for which pull-through caches run in the Shoot.
type RegistryConfig struct { //nolint:revive // The API fixes the name.
	metav1.TypeMeta

	// Caches are the caches to run, one for each upstream.
	Caches []RegistryCache
}

// RegistryCache describes the pull-through cache of one upstream registry.
type RegistryCache struct { //nolint:revive // The API fixes the name.
	// Upstream is the registry host, with an optional port, as it appears in image references.
	Upstream string
	// RemoteURL is the URL at which the upstream is reached, without a slash at the end.
	RemoteURL *string
	// Volume describes the volume that holds the cached content.
	Volume *Volume
	// GarbageCollection says when unused content is removed.
	GarbageCollection *GarbageCollection
	// SecretReferenceName is the name of the entry in the Shoot's spec.resources
	// that refers to the Secret with the upstream's credentials.
	SecretReferenceName *string
	// Proxy says through which HTTP proxies the upstream is reached.
	Proxy *Proxy
	// HTTP describes how the cache serves its clients.
	HTTP *HTTP
	// HighAvailability describes how the cache survives the loss of a node or zone.
	HighAvailability *HighAvailability
	// ServiceNameSuffix replaces the part of the Service's name that is otherwise derived from the upstream.
	ServiceNameSuffix *string
	// TagValidation says how a cached tag is compared with the upstream.
	TagValidation *TagValidation
}

// Volume describes the volume of a cache.
type Volume struct {
	// Size is the size of the volume.
	Size *resource.Quantity
	// StorageClassName is the name of the StorageClass; nil means the cluster's default.
	StorageClassName *string
}

// GarbageCollection says when unused content is removed.
type GarbageCollection struct {
	// TTL is the time that content stays after it was last pulled; 0 means forever.
	TTL *metav1.Duration
}

// Proxy says through which HTTP proxies the upstream is reached.
type Proxy struct {
	// HTTPProxy is the URL of the proxy for plain HTTP requests.
	HTTPProxy *string
	// HTTPSProxy is the URL of the proxy for HTTPS requests.
	HTTPSProxy *string
}

// HTTP describes how a cache serves its clients.
type HTTP struct {
	// TLS says whether the cache serves HTTPS.
	TLS *bool
}

// HighAvailability describes how a cache survives the loss of a node or zone.
type HighAvailability struct {
	// Enabled says whether the cache runs with two replicas, spread over nodes and zones.
	Enabled bool
}

// TagValidation says how a cached tag is compared with the upstream.
type TagValidation struct {
	// Timeout is how long a pull waits for the upstream's answer; nil leaves it to the cache.
	Timeout *metav1.Duration
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// RegistryStatus says where the caches are reached, and how they get along.
type RegistryStatus struct { //nolint:revive // The API fixes the name.
	metav1.TypeMeta

	// CASecretName is the name of the Secret, in the Shoot's namespace in the
	// seed, with the bundle of CA certificates that the caches' server
	// certificates are signed by. It is nil if no cache serves TLS.
	CASecretName *string
	// Caches are the running caches.
	Caches []RegistryCacheStatus
}

// RegistryCacheStatus says where the cache of one upstream is reached.
type RegistryCacheStatus struct { //nolint:revive // The API fixes the name.
	// Upstream is the registry host, as in the RegistryConfig.
	Upstream string
	// Endpoint is the URL of the cache, scheme://clusterIP:5000.
	Endpoint string
	// RemoteURL is the URL at which the upstream is reached.
	RemoteURL string
	// Credentials says how the upstream's credentials get along. It is nil for a cache that pulls anonymously.
	Credentials *CredentialsStatus
}

// CredentialsStatus says which credentials a cache uses, and what its upstream
// says to them. While others are to take their place, all but SecretName is
// about those: the old ones stay in use until the upstream accepts the others.
type CredentialsStatus struct {
	// SecretName is the name of the Secret, in the Shoot's project, whose credentials are in use.
	SecretName string
	// PendingSecretName is the name of the Secret whose credentials are to take their place.
	PendingSecretName string
	// PreviousSecretName is the name of the Secret whose credentials no replica needs any more, until they are removed.
	PreviousSecretName string
	// State is how the credentials get along.
	State CredentialsState
	// Since is when the state began.
	Since metav1.Time
	// UpstreamStatusCode is the HTTP status that the upstream refused the credentials with.
	UpstreamStatusCode *int32
	// Message explains the state. It never holds anything of the credentials.
	Message string
}

// CredentialsState is how credentials get along with their upstream.
type CredentialsState string

const (
	// CredentialsActive means that all replicas use the credentials, and that the upstream accepts them.
	CredentialsActive CredentialsState = "Active"
	// CredentialsPending means that not all replicas use the credentials yet.
	CredentialsPending CredentialsState = "Pending"
	// CredentialsRejected means that the upstream refuses the credentials.
	CredentialsRejected CredentialsState = "Rejected"
	// CredentialsMissing means that there are no credentials where they should be.
	CredentialsMissing CredentialsState = "Missing"
)
