// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package cache builds the objects that make up one pull-through cache in a
// Shoot. It is pure: everything that decides about an object is in [Values],
// and the same values give the same objects.
package cache

import (
	"fmt"

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
	// Namespace is the namespace in the Shoot that the caches run in.
	Namespace = metav1.NamespaceSystem
	// VolumeClaimTemplate is the name of the StatefulSet's claim template.
	// Claims of running clusters are named after it.
	VolumeClaimTemplate = "cache-volume"

	// SecretNameAnnotation is the annotation of a StatefulSet that names the Secret
	// whose credentials its cache uses. It changes when all replicas have taken over
	// others and what was before them is needed no more, so that owners can wait for it.
	SecretNameAnnotation = "registry.extensions.gardener.cloud/secret-name"

	containerName = "registry-cache"

	labelApp          = "app"
	labelUpstreamHost = "upstream-host"
)

// Selector selects the objects of all caches of a Shoot by the label that all of them bear.
const Selector = labelUpstreamHost

// Selection is Selector in the namespace of the caches.
var Selection = []client.ListOption{client.InNamespace(Namespace), client.HasLabels{Selector}}

// Values are all inputs for the objects of one cache.
type Values struct {
	// Cache is the cache as its owner wants it, with defaults.
	Cache registry.RegistryCache
	// Image is the reference of the cache server's image.
	Image string
	// Credential is presented to the upstream. Nil means anonymous access.
	Credential *credentials.Named
	// PreviousCredential is used until the upstream accepts Credential. Nil means that there is nothing to fall back on.
	PreviousCredential *credentials.Named
	// Certificate is the server certificate. It is needed if and only if the cache serves TLS.
	Certificate *Certificate
	// KubernetesVersion is the version of the Shoot.
	KubernetesVersion *semver.Version
	// VerticalPodAutoscaler says that the Shoot scales its system components vertically.
	VerticalPodAutoscaler bool
}

// Certificate is a server certificate with its key, in PEM.
type Certificate struct {
	Certificate []byte
	Key         []byte
}

// Objects returns the objects of a cache, apart from the Service, in a fixed
// order. The Service is deployed before them, as its cluster IP is part of the
// server certificate.
func Objects(values Values) ([]client.Object, error) {
	if values.ServesTLS() != (values.Certificate != nil) {
		return nil, fmt.Errorf("cache %s: a certificate is needed if and only if it serves TLS", values.Cache.Upstream)
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
	if values.Credential != nil {
		objects = append(objects, CredentialsSecret(values))
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

// secretNameInUse returns the name of the Secret that the cache cannot do without.
func (v Values) secretNameInUse() string {
	switch {
	case v.PreviousCredential != nil:
		return v.PreviousCredential.Name
	case v.Credential != nil:
		return v.Credential.Name
	}
	return ""
}

// Labels returns the labels that every object of a cache bears and that select its pods and claims.
func Labels(host upstream.Upstream) map[string]string {
	return map[string]string{
		labelApp:          host.ResourceName(),
		labelUpstreamHost: host.LabelValue(),
	}
}

// NameOf returns the name of the cache that an object, of those that bear [Labels], belongs to.
func NameOf(object client.Object) string {
	return object.GetLabels()[labelApp]
}

// Name is the name of the StatefulSet and the stem of the names of the other objects.
func (v Values) Name() string {
	return v.upstream().ResourceName()
}

// ServiceName is the name of the Service.
func (v Values) ServiceName() string {
	return v.upstream().ServiceName(v.Cache.ServiceNameSuffix)
}

// ServesTLS says whether the cache serves HTTPS.
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
		RemoteURL: *v.Cache.RemoteURL,
		TTL:       v.Cache.GarbageCollection.TTL.Duration,
	}
	if validation := v.Cache.TagValidation; validation != nil && validation.Timeout != nil {
		configuration.TagValidation = &validation.Timeout.Duration
	}
	if v.Credential != nil {
		configuration.CredentialsDirectory = credentialsDirectory
	}
	if v.ServesTLS() {
		configuration.TLS = &config.TLSFiles{
			CertificateFile: tlsDirectory + "/" + corev1.TLSCertKey,
			KeyFile:         tlsDirectory + "/" + corev1.TLSPrivateKeyKey,
		}
	}
	return configuration
}
