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

// RegistryConfig configures the pull-through caches of a Shoot. It is the providerConfig of the extension.
type RegistryConfig struct {
	metav1.TypeMeta `json:",inline"`

	// Caches lists the caches, one for each upstream. It must have at least one and at most 150 entries.
	Caches []RegistryCache `json:"caches"`
}

// RegistryCache describes the pull-through cache of one upstream registry.
type RegistryCache struct {
	// Upstream is the host of the registry with an optional port, as it appears in image references, for example
	// "docker.io" or "registry.example.com:5000". It must be a DNS subdomain, optionally followed by ":" and a port
	// from 1 to 65535, must not have a scheme, and must be unique among the caches.
	Upstream string `json:"upstream"`
	// RemoteURL is the URL of the upstream's API: http(s)://host[:port], where the host is a DNS name in lower case or an
	// IPv4 address. It must not have a path, user info, a query or a fragment. A trailing slash is ignored.
	// Defaults to "https://" followed by the upstream, or to "https://registry-1.docker.io" for docker.io.
	// +optional
	RemoteURL *string `json:"remoteURL,omitempty"`
	// Volume configures the volume for the cached content.
	// +optional
	Volume *Volume `json:"volume,omitempty"`
	// GarbageCollection configures the removal of unused content.
	// +optional
	GarbageCollection *GarbageCollection `json:"garbageCollection,omitempty"`
	// SecretReferenceName is the name of the entry in the Shoot's spec.resources that references the Secret with the
	// credential for the upstream. The Secret must be immutable and have one of these forms: type Opaque or
	// kubernetes.io/basic-auth with exactly the keys "username" and "password"; type kubernetes.io/dockerconfigjson with
	// an entry for the upstream; or, for Amazon ECR, type Opaque with the keys "accessKeyID" and "secretAccessKey", and
	// optionally "sessionToken", "roleARN" and "externalID". For Amazon ECR, Google Artifact Registry and Azure Container
	// Registry, the entry may reference a WorkloadIdentity instead. If unset, the cache pulls anonymously.
	// +optional
	SecretReferenceName *string `json:"secretReferenceName,omitempty"`
	// UsernameKey is the key of the user name in the Secret that secretReferenceName references. With usernameKey or
	// passwordKey, the Secret may have other keys as well. It must be a valid key of a Secret.
	// Defaults to "username".
	// +optional
	UsernameKey *string `json:"usernameKey,omitempty"`
	// PasswordKey is the key of the password in the Secret that secretReferenceName references. It must be a valid key of
	// a Secret.
	// Defaults to "password".
	// +optional
	PasswordKey *string `json:"passwordKey,omitempty"`
	// Credentials lists credentials for some of the upstream's repositories. secretReferenceName is for all others. It
	// must have at most 16 entries, and a configuration at most 150 caches and entries together.
	// +optional
	Credentials []RepositoryCredential `json:"credentials,omitempty"`
	// Proxy configures the HTTP proxies between the cache and the upstream.
	// +optional
	Proxy *Proxy `json:"proxy,omitempty"`
	// HTTP configures how the cache serves its clients.
	// +optional
	HTTP *HTTP `json:"http,omitempty"`
	// HighAvailability configures whether the cache tolerates the loss of a node or zone.
	// +optional
	HighAvailability *HighAvailability `json:"highAvailability,omitempty"`
	// ServiceNameSuffix sets the name of the cache's Service to "registry-<suffix>". If unset, the name is derived from
	// the upstream. The suffix must be a DNS label of at most 54 characters, and the name of the Service must be unique
	// among the caches.
	// +optional
	ServiceNameSuffix *string `json:"serviceNameSuffix,omitempty"`
	// TagValidation configures how a cached tag, which may have moved at the upstream, is validated.
	// +optional
	TagValidation *TagValidation `json:"tagValidation,omitempty"`
	// CABundleSecretReferenceName is the name of the entry in the Shoot's spec.resources that references the Secret with
	// the CA bundle of the upstream. The Secret must be immutable and have exactly the key "bundle.crt" with certificates
	// in PEM. The cache trusts them in addition to public CAs, for the registry, its token servers, the targets of its
	// redirects, and proxies with an https:// URL. All caches together can use at most 10 CA bundles.
	// +optional
	CABundleSecretReferenceName *string `json:"caBundleSecretReferenceName,omitempty"`
	// ClientCertificateSecretReferenceName is the name of the entry in the Shoot's spec.resources that references the
	// Secret with the client certificate for the upstream. The Secret must be immutable, be of type kubernetes.io/tls, and
	// have exactly the keys "tls.crt" and "tls.key". The cache presents the certificate to the registry and its token
	// servers, but not to the targets of redirects to other hosts. It needs an https:// remoteURL. All caches together can
	// use at most 10 client certificates.
	// +optional
	ClientCertificateSecretReferenceName *string `json:"clientCertificateSecretReferenceName,omitempty"`
	// AllowedRealms lists hosts of token servers outside the upstream's domain that may receive the credential, each with
	// an optional port, for example "auth.example.org". A host without a port stands for all its ports. At most 10 hosts
	// are possible, without duplicates.
	// +optional
	AllowedRealms []string `json:"allowedRealms,omitempty"`
	// Timeouts configures how long the cache waits for the upstream.
	// +optional
	Timeouts *Timeouts `json:"timeouts,omitempty"`
	// PullSecret configures a pull secret that the extension keeps in namespaces of the Shoot. It has the credentials of
	// the cache, so that pods can pull private images while the cache does not respond. The cache must have a credential,
	// and a remoteURL with the host of the upstream.
	// +optional
	PullSecret *PullSecret `json:"pullSecret,omitempty"`
	// Access configures who may pull from the cache.
	// +optional
	Access *Access `json:"access,omitempty"`
	// Accounts lists accounts of the cache for clients in the cluster that pull from its Service, for example image
	// builders. The extension keeps a Secret with the password of an account in its namespaces. Accounts need an
	// access.mode other than "Cluster". It must have at most 16 entries, and all caches together at most 32.
	// +optional
	Accounts []Account `json:"accounts,omitempty"`
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

// Access configures who may pull from a cache. Modes other than "Cluster" need TLS.
type Access struct {
	// Mode selects who may pull which images. With "Cluster", everything in the cluster may pull what the cache can pull.
	// With "PullSecrets", a pod may pull what the upstream serves to anyone, and what it serves to one of the pod's pull
	// secrets. With "Nodes", only the container runtime of a node may pull, for any pod.
	// Defaults to "Cluster".
	// +optional
	Mode AccessMode `json:"mode,omitempty"`
	// GrantDuration is how long the cache remembers that the upstream allows a pull. It requires the mode
	// "PullSecrets", and must be from 1s to 1h.
	// Defaults to 5m in this mode.
	// +optional
	GrantDuration *metav1.Duration `json:"grantDuration,omitempty"`
	// OutageGrantDuration is how long the cache remembers this while the upstream is unavailable. It requires the mode
	// "PullSecrets", and must be from 0s to 24h.
	// Defaults to 24h in this mode.
	// +optional
	OutageGrantDuration *metav1.Duration `json:"outageGrantDuration,omitempty"`
}

// Account is a user of a cache, for clients in the cluster.
type Account struct {
	// Name is the name of the account. It must be a DNS label and unique in the cache. The user name is "larder."
	// followed by it, and the Secret in the namespaces has the name of the cache, a dot and this name, for example
	// "registry-docker-io.builder".
	Name string `json:"name"`
	// Namespaces lists the namespaces that get the Secret, whether they exist already or not. It must have from 1 to 100
	// entries.
	Namespaces []string `json:"namespaces"`
	// Repositories lists the repositories that the account may pull, each with all repositories below it: "team-a" is for
	// "team-a" and "team-a/app", but not for "team-ab". Official images of Docker Hub are below "library". It must have
	// from 1 to 32 repositories of at most 255 characters. Public content of other repositories stays readable in the mode
	// "PullSecrets".
	// Defaults to all repositories.
	// +optional
	Repositories []string `json:"repositories,omitempty"`
	// RotationPeriod is the age at which the password is replaced. The previous one is accepted for an hour after all
	// namespaces have the new one, but at most until an hour after the next rotation. It must be from 1h to 720h.
	// Defaults to 24h.
	// +optional
	RotationPeriod *metav1.Duration `json:"rotationPeriod,omitempty"`
}

// PullSecret configures a pull secret with the credentials of a cache.
type PullSecret struct {
	// Name is the name of the Secret of type kubernetes.io/dockerconfigjson in each namespace. It must be a DNS
	// subdomain of at most 63 characters. Caches with the same name share the Secret; all other fields must then be the
	// same. All caches together can use at most 10 names.
	Name string `json:"name"`
	// Namespaces lists namespaces that get the Secret, whether they exist already or not. At most 100 are possible.
	// Without namespaces, namespaceSelector is required.
	// +optional
	Namespaces []string `json:"namespaces,omitempty"`
	// NamespaceSelector selects more namespaces by their labels. An empty selector selects all namespaces. It must have
	// at most 10 labels, and 10 expressions with 20 values each.
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
	// AddToDefaultServiceAccounts adds the Secret to the imagePullSecrets of the ServiceAccount "default" in each of the
	// namespaces, so that pods use it without naming it.
	// +optional
	AddToDefaultServiceAccounts bool `json:"addToDefaultServiceAccounts,omitempty"`
}

// RepositoryCredential is a credential for some of an upstream's repositories.
type RepositoryCredential struct {
	// Repositories lists the repositories that the credential is for, each with all repositories below it: "team-a" is
	// for "team-a" and "team-a/app", but not for "team-ab". If a repository is below several, the longest one counts.
	// Official images of Docker Hub are below "library". It must have from 1 to 32 repositories of at most 255
	// characters, which must be unique among the credentials of the cache.
	Repositories []string `json:"repositories"`
	// SecretReferenceName is the name of the entry in the Shoot's spec.resources that references the Secret with the
	// credential. The rules of the cache's secretReferenceName apply.
	SecretReferenceName string `json:"secretReferenceName"`
	// UsernameKey is the key of the user name in the Secret. The rules of the cache's usernameKey apply.
	// Defaults to "username".
	// +optional
	UsernameKey *string `json:"usernameKey,omitempty"`
	// PasswordKey is the key of the password in the Secret. The rules of the cache's passwordKey apply.
	// Defaults to "password".
	// +optional
	PasswordKey *string `json:"passwordKey,omitempty"`
}

// Volume configures the volume of a cache.
type Volume struct {
	// Size is the size of the volume. It must be greater than zero and at most 1Pi, and must not have an exponent. It can
	// be increased, but not decreased.
	// Defaults to 10Gi.
	// +optional
	Size *resource.Quantity `json:"size,omitempty"`
	// StorageClassName is the name of the StorageClass of the volume. It is immutable.
	// Defaults to the cluster's default StorageClass.
	// +optional
	StorageClassName *string `json:"storageClassName,omitempty"`
}

// GarbageCollection configures the removal of unused content.
type GarbageCollection struct {
	// TTL is the duration for which content stays in the cache after its last pull. 0 keeps content forever; once set, it
	// cannot be changed.
	// Defaults to 168h (7 days).
	// +optional
	TTL *metav1.Duration `json:"ttl,omitempty"`
}

// Proxy configures the HTTP proxies between a cache and its upstream.
type Proxy struct {
	// HTTPProxy is the URL of the proxy for an http:// upstream. The rules of remoteURL apply.
	// +optional
	HTTPProxy *string `json:"httpProxy,omitempty"`
	// HTTPSProxy is the URL of the proxy for an https:// upstream. The rules of remoteURL apply.
	// +optional
	HTTPSProxy *string `json:"httpsProxy,omitempty"`
	// NoProxy lists what the cache connects to without a proxy: hosts with all their subdomains ("example.com"), only the
	// subdomains of a domain (".example.com"), IP addresses, and CIDR ranges ("10.0.0.0/8"). All but ranges can have a
	// port. Addresses and ranges apply to URLs that contain an address, since names are not resolved. At most 50 entries
	// are possible. NoProxy needs httpProxy or httpsProxy.
	// +optional
	NoProxy []string `json:"noProxy,omitempty"`
	// SecretReferenceName is the name of the entry in the Shoot's spec.resources that references the Secret with the
	// credential for the proxies. The Secret must be immutable, be of type Opaque or kubernetes.io/basic-auth, and have
	// exactly the keys "username" and "password". It needs httpProxy or httpsProxy. All caches together can use at most 10
	// credentials for proxies.
	// +optional
	SecretReferenceName *string `json:"secretReferenceName,omitempty"`
}

// HTTP configures how a cache serves its clients.
type HTTP struct {
	// TLS enables HTTPS, with a certificate that the nodes trust.
	// Defaults to true.
	// +optional
	TLS *bool `json:"tls,omitempty"`
}

// HighAvailability configures whether a cache tolerates the loss of a node or zone.
type HighAvailability struct {
	// Enabled runs two replicas of the cache, spread over nodes and zones. Each has a volume of its own.
	// Defaults to false.
	// +optional
	Enabled bool `json:"enabled,omitempty"`
}

// TagValidation configures the validation of cached tags against the upstream.
type TagValidation struct {
	// Timeout is the maximum time that a pull of a cached tag waits for the upstream's response before the cache serves
	// the tag unvalidated. It must be from 0s to 30s. 0s never waits; a later pull then gets the new image of a moved
	// tag. A pull never waits for an upstream that is known to be down.
	// Defaults to 5s for an upstream that responds as fast as it recently did, and to 800ms otherwise.
	// +optional
	Timeout *metav1.Duration `json:"timeout,omitempty"`
}

// Timeouts configures how long a cache waits for its upstream.
type Timeouts struct {
	// FirstByte is the maximum time until a response of the upstream begins. It must be from 1s to 10m.
	// Defaults to 10s.
	// +optional
	FirstByte *metav1.Duration `json:"firstByte,omitempty"`
}

// +kubebuilder:object:root=true
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// RegistryStatus describes the deployed caches. It is the provider status of the Extension.
type RegistryStatus struct {
	metav1.TypeMeta `json:",inline"`

	// CASecretName is the name of the Secret in the Shoot's namespace in the seed with the CA bundle (key "bundle.crt")
	// for the server certificates of the caches. It is unset if no cache serves TLS.
	// +optional
	CASecretName *string `json:"caSecretName,omitempty"`
	// NodeCertificateSecretName is the name of the Secret in the Shoot's namespace in the seed with the client
	// certificate (keys "tls.crt" and "tls.key") of the nodes. It is set while a cache has the access mode "Nodes", is
	// changing to it, or has just left it.
	// +optional
	NodeCertificateSecretName *string `json:"nodeCertificateSecretName,omitempty"`
	// Caches lists the deployed caches.
	// +optional
	Caches []RegistryCacheStatus `json:"caches,omitempty"`
}

// RegistryCacheStatus describes the cache of one upstream.
type RegistryCacheStatus struct {
	// Upstream is the host of the registry, as in the RegistryConfig.
	Upstream string `json:"upstream"`
	// Endpoint is the URL of the cache: scheme://clusterIP:5000, with brackets around an IPv6 address.
	Endpoint string `json:"endpoint"`
	// RemoteURL is the URL of the upstream's API.
	RemoteURL string `json:"remoteURL"`
	// AccessMode is the access mode in effect. A cache that exists changes to "Nodes" only when all nodes have a client
	// certificate. It is unset for "Cluster".
	// +optional
	AccessMode AccessMode `json:"accessMode,omitempty"`
	// PendingAccessMode is the access mode that takes effect when all nodes have a client certificate. It is unset unless
	// a change to "Nodes" is pending.
	// +optional
	PendingAccessMode AccessMode `json:"pendingAccessMode,omitempty"`
	// Credentials describes the credential for the upstream. It is unset for a cache that pulls anonymously.
	// +optional
	Credentials *CredentialsStatus `json:"credentials,omitempty"`
	// RepositoryCredentials describes the credentials for some of the upstream's repositories.
	// +optional
	RepositoryCredentials []RepositoryCredentialStatus `json:"repositoryCredentials,omitempty"`
	// PullSecret describes the pull secret. It is unset for a cache without one.
	// +optional
	PullSecret *PullSecretStatus `json:"pullSecret,omitempty"`
	// Accounts describes the accounts. It is unset for a cache without accounts.
	// +optional
	Accounts []AccountStatus `json:"accounts,omitempty"`
	// Conditions has the condition "Ready", unless the cache is new. It is "True" if at least one replica works, "False"
	// with the most important cause if none does, and "Unknown" if the replicas cannot be observed, for example in a
	// hibernated Shoot. A cache with a pull secret also has the condition "PullSecretReady". It is "False" with the cause
	// if a namespace does not have the pull secret as it should be. "AccountsReady" is the same for the Secrets of
	// accounts.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// AccountStatus describes an account of a cache.
type AccountStatus struct {
	// Name is the name of the account.
	Name string `json:"name"`
	// Registry is the host and port by which images are pulled with the account.
	Registry string `json:"registry"`
	// SecretName is the name of the Secret in each namespace.
	SecretName string `json:"secretName"`
}

// PullSecretStatus describes a pull secret.
type PullSecretStatus struct {
	// Name is the name of the Secret in each namespace.
	Name string `json:"name"`
	// SecretNames lists the names of the Secrets in the Shoot's project whose credentials the pull secret has. It has
	// only credentials that the upstream has accepted.
	// +optional
	SecretNames []string `json:"secretNames,omitempty"`
}

// RepositoryCredentialStatus describes the credential for some of an upstream's repositories.
type RepositoryCredentialStatus struct {
	// Repositories lists the repositories, as in the RegistryConfig.
	Repositories []string `json:"repositories"`
	// Credentials describes the credential.
	Credentials CredentialsStatus `json:"credentials"`
}

// CredentialsStatus describes the credential of a cache and whether the upstream accepts it. During a rotation, all
// fields except secretName and previousSecretName describe the new credential; the old one stays in use until the
// upstream accepts the new one. The credential of a WorkloadIdentity has the name WorkloadIdentity/NAME.
type CredentialsStatus struct {
	// SecretName is the name of the Secret in the Shoot's project whose credential is in use.
	// +optional
	SecretName string `json:"secretName,omitempty"`
	// PendingSecretName is the name of the Secret whose credential will replace the one in use. The credential in use
	// must stay valid until this field is unset.
	// +optional
	PendingSecretName string `json:"pendingSecretName,omitempty"`
	// PreviousSecretName is the name of the Secret whose credential no replica uses any more. It is unset once that
	// credential has been removed from the Shoot.
	// +optional
	PreviousSecretName string `json:"previousSecretName,omitempty"`
	// State is "Active" if all replicas use the credential and the upstream accepts it, "Pending" if some replicas do not
	// use it yet, "Rejected" if the upstream rejects it, and "Missing" if a replica that needs a credential has none.
	State CredentialsState `json:"state"`
	// Since is the time at which the credential entered the state.
	Since metav1.Time `json:"since"`
	// UpstreamStatusCode is the HTTP status code with which the upstream rejected the credential.
	// +optional
	UpstreamStatusCode *int32 `json:"upstreamStatusCode,omitempty"`
	// Message explains the state. It never contains any part of the credential.
	// +optional
	Message string `json:"message,omitempty"`
}

// CredentialsState is the state of a cache's credential at its upstream.
// +kubebuilder:validation:Enum=Active;Pending;Rejected;Missing
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
