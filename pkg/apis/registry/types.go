// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larder-project/larder/pkg/upstream"
)

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// RegistryConfig configures the pull-through caches of a Shoot. It is the providerConfig of the extension.
type RegistryConfig struct { //nolint:revive // The API fixes the name.
	metav1.TypeMeta

	// Caches lists the caches, one for each upstream.
	Caches []RegistryCache
}

// RegistryCache describes the pull-through cache of one upstream registry.
type RegistryCache struct { //nolint:revive // The API fixes the name.
	// Upstream is the host of the registry with an optional port, as it appears in image references.
	Upstream string
	// RemoteURL is the URL of the upstream's API, without a trailing slash.
	RemoteURL *string
	// Volume configures the volume for the cached content.
	Volume *Volume
	// GarbageCollection configures the removal of unused content.
	GarbageCollection *GarbageCollection
	// SecretReferenceName is the name of the entry in the Shoot's spec.resources that references the Secret with the
	// credential for the upstream.
	SecretReferenceName *string
	// UsernameKey and PasswordKey are the keys in that Secret; nil means that it may have any form.
	UsernameKey *string
	PasswordKey *string
	// Credentials lists credentials for some of the upstream's repositories. SecretReferenceName is for all others.
	Credentials []RepositoryCredential
	// Proxy configures the HTTP proxies between the cache and the upstream.
	Proxy *Proxy
	// HTTP configures how the cache serves its clients.
	HTTP *HTTP
	// HighAvailability configures whether the cache tolerates the loss of a node or zone.
	HighAvailability *HighAvailability
	// ServiceNameSuffix replaces the part of the Service's name that is derived from the upstream by default.
	ServiceNameSuffix *string
	// TagValidation configures the validation of cached tags against the upstream.
	TagValidation *TagValidation
	// CABundleSecretReferenceName is the name of the entry in the Shoot's spec.resources that references the Secret with
	// the CA bundle of the upstream.
	CABundleSecretReferenceName *string
	// ClientCertificateSecretReferenceName is the name of the entry in the Shoot's spec.resources that references the
	// Secret with the client certificate for the upstream.
	ClientCertificateSecretReferenceName *string
	// AllowedRealms lists hosts of token servers outside the upstream's domain that may receive the credential.
	AllowedRealms []string
	// Timeouts configures how long the cache waits for the upstream.
	Timeouts *Timeouts
	// PullSecret configures a pull secret in namespaces of the Shoot, for pulls while the cache does not respond.
	PullSecret *PullSecret
	// Access configures who may pull from the cache.
	Access *Access
	// Accounts lists accounts of the cache for clients in the cluster that pull from its Service.
	Accounts []Account
}

// AccessMode is a mode of access to a cache.
type AccessMode string

const (
	// AccessCluster lets everything in the cluster pull everything.
	AccessCluster AccessMode = "Cluster"
	// AccessPullSecrets lets clients pull what the upstream lets them pull.
	AccessPullSecrets AccessMode = "PullSecrets"
	// AccessNodes lets nodes pull everything.
	AccessNodes AccessMode = "Nodes"
)

// Access configures who may pull from a cache.
type Access struct {
	// Mode selects who may pull which images.
	Mode AccessMode
	// GrantDuration is how long the cache remembers that the upstream allows a pull. It is nil in modes other than
	// [AccessPullSecrets].
	GrantDuration *metav1.Duration
	// OutageGrantDuration is how long the cache remembers this while the upstream is unavailable.
	OutageGrantDuration *metav1.Duration
}

// AccessMode returns the mode of access to the cache.
func (c *RegistryCache) AccessMode() AccessMode {
	if c.Access == nil || c.Access.Mode == "" {
		return AccessCluster
	}
	return c.Access.Mode
}

// AccountSecretName returns the name of the Secret of an account in its namespaces. Neither the name of a cache nor
// that of an account has a dot, so names are unique.
func (c *RegistryCache) AccountSecretName(account Account) string {
	return upstream.Upstream(c.Upstream).ResourceName() + "." + account.Name
}

// Account is a user of a cache, for clients in the cluster.
type Account struct {
	// Name is the name of the account.
	Name string
	// Namespaces lists the namespaces that get the Secret with the password.
	Namespaces []string
	// Repositories lists the repositories that the account may pull, each with all repositories below it. None means all.
	Repositories []string
	// RotationPeriod is the age at which the password is replaced. The previous one is accepted for an hour after all
	// namespaces have the new one, but at most until an hour after the next rotation.
	RotationPeriod *metav1.Duration
}

// PullSecret configures a pull secret with the credentials of a cache.
type PullSecret struct {
	// Name is the name of the Secret in each namespace.
	Name string
	// Namespaces lists namespaces.
	Namespaces []string
	// NamespaceSelector selects more namespaces by their labels.
	NamespaceSelector *metav1.LabelSelector
	// AddToDefaultServiceAccounts adds the pull secret to the default ServiceAccount of each namespace.
	AddToDefaultServiceAccounts bool
}

// RepositoryCredential is a credential for some of an upstream's repositories.
type RepositoryCredential struct {
	// Repositories lists the repositories that the credential is for, each with all repositories below it.
	Repositories []string
	// SecretReferenceName is the name of the entry in the Shoot's spec.resources that references the Secret with the
	// credential.
	SecretReferenceName string
	// UsernameKey and PasswordKey are the keys in that Secret; nil means that it may have any form.
	UsernameKey *string
	PasswordKey *string
}

// Volume configures the volume of a cache.
type Volume struct {
	// Size is the size of the volume.
	Size *resource.Quantity
	// StorageClassName is the name of the StorageClass; nil means the cluster's default.
	StorageClassName *string
}

// GarbageCollection configures the removal of unused content.
type GarbageCollection struct {
	// TTL is the duration for which content stays after its last pull; 0 means forever.
	TTL *metav1.Duration
}

// Proxy configures the HTTP proxies between a cache and its upstream.
type Proxy struct {
	// HTTPProxy is the URL of the proxy for an http:// upstream.
	HTTPProxy *string
	// HTTPSProxy is the URL of the proxy for an https:// upstream.
	HTTPSProxy *string
	// NoProxy lists hosts, domains, IP addresses and CIDR ranges that the cache connects to without a proxy.
	NoProxy []string
	// SecretReferenceName is the name of the entry in the Shoot's spec.resources that references the Secret with the
	// credential for the proxies.
	SecretReferenceName *string
}

// HTTP configures how a cache serves its clients.
type HTTP struct {
	// TLS enables HTTPS.
	TLS *bool
}

// HighAvailability configures whether a cache tolerates the loss of a node or zone.
type HighAvailability struct {
	// Enabled runs two replicas of the cache, spread over nodes and zones.
	Enabled bool
}

// TagValidation configures the validation of cached tags against the upstream.
type TagValidation struct {
	// Timeout is the maximum time that a pull waits for the upstream's response; nil leaves it to the cache.
	Timeout *metav1.Duration
}

// Timeouts configures how long a cache waits for its upstream.
type Timeouts struct {
	// FirstByte is the maximum time until a response of the upstream begins; nil leaves it to the cache.
	FirstByte *metav1.Duration
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// RegistryStatus describes the deployed caches.
type RegistryStatus struct { //nolint:revive // The API fixes the name.
	metav1.TypeMeta

	// CASecretName is the name of the Secret in the Shoot's namespace in the seed with the CA bundle for the server
	// certificates of the caches. It is nil if no cache serves TLS.
	CASecretName *string
	// NodeCertificateSecretName is the name of the Secret in the Shoot's namespace in the seed with the client certificate
	// of the nodes. It is set while a cache has the mode [AccessNodes], is changing to it, or has just left it.
	NodeCertificateSecretName *string
	// Caches lists the deployed caches.
	Caches []RegistryCacheStatus
}

// RegistryCacheStatus describes the cache of one upstream.
type RegistryCacheStatus struct { //nolint:revive // The API fixes the name.
	// Upstream is the host of the registry, as in the RegistryConfig.
	Upstream string
	// Endpoint is the URL of the cache, scheme://clusterIP:5000.
	Endpoint string
	// RemoteURL is the URL of the upstream's API.
	RemoteURL string
	// AccessMode is the access mode in effect. A cache that exists changes to [AccessNodes] only when all nodes have a
	// client certificate. It is empty for [AccessCluster].
	AccessMode AccessMode
	// PendingAccessMode is the access mode that takes effect when all nodes have a client certificate. It is unset unless
	// a change to [AccessNodes] is pending.
	PendingAccessMode AccessMode
	// Credentials describes the credential for the upstream. It is nil for a cache that pulls anonymously.
	Credentials *CredentialsStatus
	// RepositoryCredentials describes the credentials for some of the upstream's repositories.
	RepositoryCredentials []RepositoryCredentialStatus
	// PullSecret describes the pull secret. It is nil for a cache without one.
	PullSecret *PullSecretStatus
	// Accounts describes the accounts. It is unset for a cache without accounts.
	Accounts []AccountStatus
	// Conditions has the condition [ConditionReady], [ConditionPullSecretReady] for a cache with a pull secret, and
	// [ConditionAccountsReady] for one with accounts.
	Conditions []metav1.Condition
}

// AccountStatus describes an account of a cache.
type AccountStatus struct {
	// Name is the name of the account.
	Name string
	// Registry is the host and port by which images are pulled with the account.
	Registry string
	// SecretName is the name of the Secret in each namespace.
	SecretName string
}

// PullSecretStatus describes a pull secret.
type PullSecretStatus struct {
	// Name is the name of the Secret in each namespace.
	Name string
	// SecretNames lists the names of the Secrets in the Shoot's project whose credentials the pull secret has.
	SecretNames []string
}

// RepositoryCredentialStatus describes the credential for some of an upstream's repositories.
type RepositoryCredentialStatus struct {
	// Repositories lists the repositories, as in the RegistryConfig.
	Repositories []string
	// Credentials describes the credential.
	Credentials CredentialsStatus
}

// SharedRegistriesAnnotation of an OperatingSystemConfig is a JSON object with the upstreams whose caches nodes use
// together with the hosts of others, as keys. Nodes present no client certificate to these caches.
const SharedRegistriesAnnotation = GroupName + "/containerd-registries"

// ConditionReady is the type of the condition that reports whether a cache works. It is True if at least one replica works,
// False with the most important cause if none does, and Unknown if the replicas cannot be observed, for example in a
// hibernated Shoot.
const ConditionReady = "Ready"

// ConditionPullSecretReady is the type of the condition that reports whether all namespaces have the pull secret. It is
// False with the cause if some do not, and Unknown if that cannot be observed.
const ConditionPullSecretReady = "PullSecretReady"

// ConditionAccountsReady is the type of the condition that reports whether all namespaces have the Secrets of the
// accounts. It is False with the cause if some do not, and Unknown if that cannot be observed.
const ConditionAccountsReady = "AccountsReady"

// CredentialsStatus describes the credential of a cache and whether the upstream accepts it. During a rotation, all
// fields except SecretName and PreviousSecretName describe the new credential; the old one stays in use until the
// upstream accepts the new one. The credential of a WorkloadIdentity has the name WorkloadIdentity/NAME.
type CredentialsStatus struct {
	// SecretName is the name of the Secret in the Shoot's project whose credential is in use.
	SecretName string
	// PendingSecretName is the name of the Secret whose credential will replace the one in use.
	PendingSecretName string
	// PreviousSecretName is the name of the Secret whose credential no replica uses any more. It is empty once that
	// credential has been removed from the Shoot.
	PreviousSecretName string
	// State is the state of the credential.
	State CredentialsState
	// Since is the time at which the credential entered the state.
	Since metav1.Time
	// UpstreamStatusCode is the HTTP status code with which the upstream rejected the credential.
	UpstreamStatusCode *int32
	// Message explains the state. It never contains any part of the credential.
	Message string
}

// CredentialsState is the state of a cache's credential at its upstream.
type CredentialsState string

const (
	// CredentialsActive means that all replicas use the credential and the upstream accepts it.
	CredentialsActive CredentialsState = "Active"
	// CredentialsPending means that some replicas do not use the credential yet.
	CredentialsPending CredentialsState = "Pending"
	// CredentialsRejected means that the upstream rejects the credential.
	CredentialsRejected CredentialsState = "Rejected"
	// CredentialsMissing means that a replica that needs a credential has none.
	CredentialsMissing CredentialsState = "Missing"
)
