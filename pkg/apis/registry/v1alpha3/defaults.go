// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package v1alpha3

import (
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/larder-project/larder/pkg/upstream"
)

const (
	defaultVolumeSize = "10Gi"
	defaultTTL        = 7 * 24 * time.Hour

	defaultGrantDuration       = 5 * time.Minute
	defaultOutageGrantDuration = 24 * time.Hour

	defaultRotationPeriod = 24 * time.Hour
)

func addDefaultingFuncs(scheme *runtime.Scheme) error {
	return RegisterDefaults(scheme)
}

// SetDefaults_RegistryCache sets the defaults of a cache.
func SetDefaults_RegistryCache(cache *RegistryCache) {
	if cache.RemoteURL == nil {
		cache.RemoteURL = new(upstream.Upstream(cache.Upstream).DefaultRemoteURL())
	}
	trimSlash(cache.RemoteURL)
	if cache.Volume == nil {
		cache.Volume = &Volume{}
	}
	if cache.GarbageCollection == nil {
		cache.GarbageCollection = &GarbageCollection{}
	}
	if cache.HTTP == nil {
		cache.HTTP = &HTTP{}
	}
	if cache.HighAvailability == nil {
		cache.HighAvailability = &HighAvailability{}
	}
	if cache.Access == nil {
		cache.Access = &Access{}
	}
}

// SetDefaults_Access sets the default mode, and the durations of a mode that has them.
func SetDefaults_Access(access *Access) {
	if access.Mode == "" {
		access.Mode = AccessCluster
	}
	if access.Mode != AccessPullSecrets {
		return
	}
	if access.GrantDuration == nil {
		access.GrantDuration = &metav1.Duration{Duration: defaultGrantDuration}
	}
	if access.OutageGrantDuration == nil {
		access.OutageGrantDuration = &metav1.Duration{Duration: defaultOutageGrantDuration}
	}
}

// SetDefaults_Account sets the default rotation period.
func SetDefaults_Account(account *Account) {
	if account.RotationPeriod == nil {
		account.RotationPeriod = &metav1.Duration{Duration: defaultRotationPeriod}
	}
}

// SetDefaults_Proxy normalizes the URLs of the proxies. Proxies have no defaults.
func SetDefaults_Proxy(proxy *Proxy) {
	trimSlash(proxy.HTTPProxy)
	trimSlash(proxy.HTTPSProxy)
}

// trimSlash removes a trailing slash from a URL. Owners may write it, but other code compares the URLs, appends paths
// to them and writes them into files, so each needs a single form.
func trimSlash(url *string) {
	if url != nil {
		*url = strings.TrimSuffix(*url, "/")
	}
}

// SetDefaults_Volume sets the default size of a volume.
func SetDefaults_Volume(volume *Volume) {
	if volume.Size == nil {
		volume.Size = new(resource.MustParse(defaultVolumeSize))
	}
}

// SetDefaults_GarbageCollection sets the default TTL.
func SetDefaults_GarbageCollection(collection *GarbageCollection) {
	if collection.TTL == nil {
		collection.TTL = &metav1.Duration{Duration: defaultTTL}
	}
}

// SetDefaults_HTTP enables TLS by default.
func SetDefaults_HTTP(http *HTTP) {
	if http.TLS == nil {
		http.TLS = new(true)
	}
}
