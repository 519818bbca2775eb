// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package v1alpha3

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +kubebuilder:object:root=true
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// RegistryConfig lists the upstream registries for which pull-through caches run in the Shoot.
type RegistryConfig struct {
	metav1.TypeMeta `json:",inline"`

	// Caches are the caches to run, one for each upstream. At least one is required, at most 150 are possible.
	Caches []RegistryCache `json:"caches"`
}

// RegistryCache describes the pull-through cache of one upstream registry.
type RegistryCache struct {
	// Upstream is the registry host, with an optional port, as it appears in image references, for
	// example "docker.io" or "registry.example.com:5000". It must be a DNS subdomain, optionally
	// followed by ":" and a port from 1 to 65535, without a scheme, and unique among the caches.
	Upstream string `json:"upstream"`
	// RemoteURL is the URL at which the upstream is reached: http or https, a host and optionally a
	// port, without path, user info, query or fragment. A slash at the end is ignored. The host is a
	// DNS name in lower case or an IPv4 address.
	// Defaults to "https://" followed by the upstream, and to "https://registry-1.docker.io" for docker.io.
	// +optional
	RemoteURL *string `json:"remoteURL,omitempty"`
	// Volume describes the volume that holds the cached content.
	// +optional
	Volume *Volume `json:"volume,omitempty"`
	// GarbageCollection says when unused content is removed.
	// +optional
	GarbageCollection *GarbageCollection `json:"garbageCollection,omitempty"`
	// SecretReferenceName is the name of the entry in the Shoot's spec.resources that refers to the
	// Secret with the upstream's credentials. The Secret must be immutable, of type Opaque or
	// kubernetes.io/basic-auth, and hold the keys "username" and "password" and no others. Without it the
	// cache pulls anonymously.
	// +optional
	SecretReferenceName *string `json:"secretReferenceName,omitempty"`
	// Proxy says through which HTTP proxies the upstream is reached.
	// +optional
	Proxy *Proxy `json:"proxy,omitempty"`
	// HTTP describes how the cache serves its clients.
	// +optional
	HTTP *HTTP `json:"http,omitempty"`
	// HighAvailability describes how the cache survives the loss of a node or zone.
	// +optional
	HighAvailability *HighAvailability `json:"highAvailability,omitempty"`
	// ServiceNameSuffix replaces the part of the Service's name that is otherwise derived from the
	// upstream: the Service is then named "registry-" followed by it. It must be a DNS label of at
	// most 54 characters, and the Service's name must be unique among the caches.
	// +optional
	ServiceNameSuffix *string `json:"serviceNameSuffix,omitempty"`
	// TagValidation says how a cached tag is compared with the upstream, which may have moved it.
	// +optional
	TagValidation *TagValidation `json:"tagValidation,omitempty"`
}

// Volume describes the volume of a cache.
type Volume struct {
	// Size is the size of the volume, greater than zero and at most 1Pi, without an exponent. It may grow
	// but not shrink.
	// Defaults to 10Gi.
	// +optional
	Size *resource.Quantity `json:"size,omitempty"`
	// StorageClassName is the name of the StorageClass of the volume. It can't be changed.
	// Defaults to the cluster's default StorageClass.
	// +optional
	StorageClassName *string `json:"storageClassName,omitempty"`
}

// GarbageCollection says when unused content is removed.
type GarbageCollection struct {
	// TTL is the time that content stays in the cache after it was last pulled; 0 keeps it forever.
	// Defaults to 168h, that is 7 days.
	// +optional
	TTL *metav1.Duration `json:"ttl,omitempty"`
}

// Proxy says through which HTTP proxies the upstream is reached.
type Proxy struct {
	// HTTPProxy is the URL of the proxy for requests to http:// upstreams.
	// +optional
	HTTPProxy *string `json:"httpProxy,omitempty"`
	// HTTPSProxy is the URL of the proxy for requests to https:// upstreams.
	// +optional
	HTTPSProxy *string `json:"httpsProxy,omitempty"`
}

// HTTP describes how a cache serves its clients.
type HTTP struct {
	// TLS says whether the cache serves HTTPS, with a certificate that the nodes trust.
	// Defaults to true.
	// +optional
	TLS *bool `json:"tls,omitempty"`
}

// HighAvailability describes how a cache survives the loss of a node or zone.
type HighAvailability struct {
	// Enabled says whether the cache runs with two replicas, spread over nodes and zones, each with a volume of its own.
	// Defaults to false.
	// +optional
	Enabled bool `json:"enabled,omitempty"`
}

// TagValidation says how a cached tag is compared with the upstream.
type TagValidation struct {
	// Timeout is how long a pull of a cached tag waits for the upstream's answer before the cached image is
	// served, from 0s to 30s. 0s never waits, so that a moved tag is noticed by a later pull. An upstream
	// that is known to be down is not waited for.
	// Defaults to 5s for an upstream that answers as fast as it did lately, and to 800ms for any other.
	// +optional
	Timeout *metav1.Duration `json:"timeout,omitempty"`
}

// +kubebuilder:object:root=true
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// RegistryStatus says where the caches are reached. It is the provider status of the Extension.
type RegistryStatus struct {
	metav1.TypeMeta `json:",inline"`

	// CASecretName is the name of the Secret, in the Shoot's namespace in the seed, with the bundle of
	// CA certificates (key "bundle.crt") for the caches' server certificates. Unset if no cache serves TLS.
	// +optional
	CASecretName *string `json:"caSecretName,omitempty"`
	// Caches are the running caches.
	// +optional
	Caches []RegistryCacheStatus `json:"caches,omitempty"`
}

// RegistryCacheStatus says where the cache of one upstream is reached.
type RegistryCacheStatus struct {
	// Upstream is the registry host, as in the RegistryConfig.
	Upstream string `json:"upstream"`
	// Endpoint is the URL of the cache: scheme://clusterIP:5000, an IPv6 address in brackets.
	Endpoint string `json:"endpoint"`
	// RemoteURL is the URL at which the upstream is reached.
	RemoteURL string `json:"remoteURL"`
	// Credentials says how the upstream's credentials get along. Unset for a cache that pulls anonymously.
	// +optional
	Credentials *CredentialsStatus `json:"credentials,omitempty"`
}

// CredentialsStatus says which credentials a cache uses, and what its upstream says to them. While others are to
// take their place, all but secretName is about those: the old ones stay in use until the upstream accepts the others.
type CredentialsStatus struct {
	// SecretName is the name of the Secret, in the Shoot's project, whose credentials are in use.
	// +optional
	SecretName string `json:"secretName,omitempty"`
	// PendingSecretName is the name of the Secret whose credentials are to take their place. The other Secret
	// must stay until this field is gone.
	// +optional
	PendingSecretName string `json:"pendingSecretName,omitempty"`
	// PreviousSecretName is the name of the Secret whose credentials no replica needs any more, until they are
	// removed from the Shoot.
	// +optional
	PreviousSecretName string `json:"previousSecretName,omitempty"`
	// State is how the credentials get along: "Active" if all replicas use them and the upstream accepts them,
	// "Pending" if not all replicas have come that far, "Rejected" if the upstream refuses them, and
	// "Missing" if there are none where they should be.
	State CredentialsState `json:"state"`
	// Since is when the state began.
	Since metav1.Time `json:"since"`
	// UpstreamStatusCode is the HTTP status that the upstream refused the credentials with.
	// +optional
	UpstreamStatusCode *int32 `json:"upstreamStatusCode,omitempty"`
	// Message explains the state. It never holds anything of the credentials.
	// +optional
	Message string `json:"message,omitempty"`
}

// CredentialsState is how credentials get along with their upstream.
// +kubebuilder:validation:Enum=Active;Pending;Rejected;Missing
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
