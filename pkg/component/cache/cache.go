// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package cache builds the objects of one pull-through cache in a Shoot. It is pure: the objects depend only on
// [Values].
package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/Masterminds/semver/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/upstream"
)

const (
	// Namespace is the namespace of the caches in the Shoot.
	Namespace = metav1.NamespaceSystem
	// VolumeClaimTemplate is the name of the StatefulSet's claim template. The names of the claims in running clusters
	// depend on it.
	VolumeClaimTemplate = "cache-volume"

	// SecretNameAnnotation is the annotation of a StatefulSet with the name of the Secret whose credential its cache
	// uses. It changes once all replicas use a new credential and no longer need the previous one, so that owners can
	// wait for it.
	SecretNameAnnotation = "registry.extensions.gardener.cloud/secret-name"

	// ContainerName is the name of the container of the cache server.
	ContainerName = "registry-cache"

	// repositorySecretNamePrefix is the prefix of the annotations for the credentials of some repositories.
	repositorySecretNamePrefix = "secret-name.registry.extensions.gardener.cloud/"
	// maxRepositoryAnnotation is the length up to which a repository is part of an annotation's name as it is. Longer
	// ones are cut and followed by a hash, so that the name has at most 63 characters.
	maxRepositoryAnnotation = 63
	repositoryHashLength    = 10

	labelApp          = "app"
	labelUpstreamHost = "upstream-host"
)

// Selector is the label key by which the objects of all caches of a Shoot are selected.
const Selector = labelUpstreamHost

// Selection selects the objects of all caches in the namespace of the caches.
var Selection = []client.ListOption{client.InNamespace(Namespace), client.HasLabels{Selector}}

// Values are all inputs for the objects of one cache.
type Values struct {
	// Cache is the configuration of the cache with defaults.
	Cache registry.RegistryCache
	// Image is the image reference of the cache server.
	Image string
	// Credential is the credential for the upstream. Nil means anonymous access.
	Credential *credentials.Named
	// PreviousCredential is used until the upstream accepts Credential. Nil means that there is none.
	PreviousCredential *credentials.Named
	// RepositoryCredentials are the credentials for some of the upstream's repositories.
	RepositoryCredentials []RepositoryCredential
	// Connection is the content of the Secrets for the connections to the upstream.
	Connection Connection
	// Access is what a cache needs to restrict access. It is required if and only if the cache does, see
	// [Values.RestrictsAccess].
	Access *Access
	// Certificate is the server certificate. It is required if and only if the cache serves TLS.
	Certificate *Certificate
	// KubernetesVersion is the version of the Shoot.
	KubernetesVersion *semver.Version
	// VerticalPodAutoscaler reports whether vertical pod autoscaling is enabled in the Shoot.
	VerticalPodAutoscaler bool
}

// RepositoryCredential is the credential for some of an upstream's repositories.
type RepositoryCredential struct {
	Repositories []string
	// Credential is nil if none can be used. The cache then serves nothing that it has to fetch from the repositories.
	Credential *credentials.Named
	// Previous is used until the upstream accepts Credential. Nil means that there is none.
	Previous *credentials.Named
}

// Certificate is a certificate and its key in PEM format.
type Certificate struct {
	Certificate []byte
	Key         []byte
}

// Access is what a cache needs to restrict access.
type Access struct {
	// DebugToken is what a client of the debug port presents to see more than health and metrics.
	DebugToken string
	// ClientCAs are the certificates of the authorities of nodes in PEM. They are required for the mode Nodes.
	ClientCAs []byte
}

// Connection is what a cache needs to connect to its upstream. The zero value needs no Secret.
type Connection struct {
	// CABundle are the certificates in PEM that the cache trusts in addition to public CAs.
	CABundle []byte
	// ClientCertificate identifies the cache at the upstream. Nil means that there is none.
	ClientCertificate *Certificate
	// ProxyCredential is the credential for the proxies. Nil means that there is none.
	ProxyCredential *credentials.Credential
}

// Objects returns the objects of a cache except the Service, in a fixed order. The Service is deployed before them,
// since its cluster IP is part of the server certificate.
func Objects(values Values) ([]client.Object, error) {
	if values.ServesTLS() != (values.Certificate != nil) {
		return nil, fmt.Errorf("cache %s: a certificate is required if and only if the cache serves TLS", values.Cache.Upstream)
	}
	if values.RestrictsAccess() != (values.Access != nil) {
		return nil, fmt.Errorf("cache %s: a debug token is required if and only if the cache restricts access", values.Cache.Upstream)
	}
	configSecret, err := ConfigSecret(values)
	if err != nil {
		return nil, err
	}
	statefulSet, err := StatefulSet(values)
	if err != nil {
		return nil, err
	}

	objects := []client.Object{configSecret}
	if values.hasCredentials() {
		objects = append(objects, CredentialsSecret(values))
	}
	if values.Connection.needsSecret() {
		objects = append(objects, ConnectionSecret(values))
	}
	if values.RestrictsAccess() {
		objects = append(objects, AccessSecret(values))
	}
	if values.ServesTLS() {
		objects = append(objects, TLSSecret(values))
	}
	objects = append(objects, statefulSet, NetworkPolicy(values))
	if values.Cache.HighAvailability.Enabled {
		objects = append(objects, PodDisruptionBudget(values))
	}
	if values.VerticalPodAutoscaler {
		objects = append(objects, VerticalPodAutoscaler(values))
	}
	return objects, nil
}

// hasCredentials reports whether the cache has a credential, for all repositories or some.
func (v Values) hasCredentials() bool {
	return v.Credential != nil || len(v.RepositoryCredentials) > 0
}

// secretNameAnnotations returns the names of the Secrets whose credentials the cache still needs.
func (v Values) secretNameAnnotations() map[string]string {
	if !v.hasCredentials() {
		return nil
	}
	annotations := map[string]string{}
	if v.Credential != nil {
		annotations[SecretNameAnnotation] = nameInUse(*v.Credential, v.PreviousCredential)
	}
	for _, credential := range v.RepositoryCredentials {
		if credential.Credential != nil {
			annotations[RepositorySecretNameAnnotation(credential.Repositories)] = nameInUse(*credential.Credential, credential.Previous)
		}
	}
	return annotations
}

// nameInUse returns the name of the Secret that is still needed.
func nameInUse(wanted credentials.Named, previous *credentials.Named) string {
	if previous != nil {
		return previous.Name
	}
	return wanted.Name
}

// RepositorySecretNameAnnotation returns the annotation of a StatefulSet that corresponds to [SecretNameAnnotation] for
// the credential of some repositories. It is named after the first of them, with ".." for each slash, which no
// repository contains.
func RepositorySecretNameAnnotation(repositories []string) string {
	name := strings.ReplaceAll(repositories[0], "/", "..")
	if len(name) > maxRepositoryAnnotation {
		sum := sha256.Sum256([]byte(repositories[0]))
		name = name[:maxRepositoryAnnotation-repositoryHashLength-1] + "-" + hex.EncodeToString(sum[:])[:repositoryHashLength]
	}
	return repositorySecretNamePrefix + name
}

// Labels returns the labels of all objects of a cache. They select its pods and claims.
func Labels(host upstream.Upstream) map[string]string {
	return map[string]string{
		labelApp:          host.ResourceName(),
		labelUpstreamHost: host.LabelValue(),
	}
}

// NameOf returns the name of the cache to which an object with [Labels] belongs.
func NameOf(object client.Object) string {
	return object.GetLabels()[labelApp]
}

// Name is the name of the StatefulSet and the prefix of the names of the other objects.
func (v Values) Name() string {
	return v.upstream().ResourceName()
}

// ServiceName is the name of the Service.
func (v Values) ServiceName() string {
	return v.upstream().ServiceName(v.Cache.ServiceNameSuffix)
}

// ServesTLS reports whether the cache serves HTTPS.
func (v Values) ServesTLS() bool {
	return *v.Cache.HTTP.TLS
}

func (v Values) upstream() upstream.Upstream {
	return upstream.Upstream(v.Cache.Upstream)
}

func (v Values) objectMeta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: Namespace, Labels: Labels(v.upstream())}
}

// config is the configuration of the cache server.
func (v Values) config() config.Config {
	configuration := config.Config{
		RemoteURL:     *v.Cache.RemoteURL,
		TTL:           v.Cache.GarbageCollection.TTL.Duration,
		Connection:    v.Connection.files(),
		AllowedRealms: v.Cache.AllowedRealms,
		Access:        v.accessOptions(),
	}
	if timeouts := v.Cache.Timeouts; timeouts != nil && timeouts.FirstByte != nil {
		configuration.FirstByte = &timeouts.FirstByte.Duration
	}
	if validation := v.Cache.TagValidation; validation != nil && validation.Timeout != nil {
		configuration.TagValidation = &validation.Timeout.Duration
	}
	if v.Credential != nil {
		configuration.CredentialsDirectory = credentialsDirectory
	}
	for _, credential := range v.RepositoryCredentials {
		configuration.RepositoryCredentials = append(configuration.RepositoryCredentials, config.RepositoryCredential{
			Directory: credentialsDirectory, Prefix: credentials.Prefix(credential.Repositories), Repositories: credential.Repositories,
		})
	}
	if v.ServesTLS() {
		configuration.TLS = &config.TLSFiles{
			CertificateFile: tlsDirectory + "/" + corev1.TLSCertKey,
			KeyFile:         tlsDirectory + "/" + corev1.TLSPrivateKeyKey,
		}
	}
	return configuration
}
