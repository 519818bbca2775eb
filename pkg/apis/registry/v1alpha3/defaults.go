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
	"k8s.io/utils/ptr"

	"github.com/larder-project/larder/pkg/upstream"
)

const (
	defaultVolumeSize = "10Gi"
	defaultTTL        = 7 * 24 * time.Hour
)

func addDefaultingFuncs(scheme *runtime.Scheme) error {
	return RegisterDefaults(scheme)
}

// SetDefaults_RegistryCache fills in what the owner of a Shoot left out of a cache.
func SetDefaults_RegistryCache(cache *RegistryCache) {
	if cache.RemoteURL == nil {
		cache.RemoteURL = ptr.To(upstream.Upstream(cache.Upstream).DefaultRemoteURL())
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
}

// SetDefaults_Proxy fills in nothing: what is left out is not used.
func SetDefaults_Proxy(proxy *Proxy) {
	trimSlash(proxy.HTTPProxy)
	trimSlash(proxy.HTTPSProxy)
}

// trimSlash removes a slash at the end of a URL, which owners may write and
// which means nothing. All others compare the URLs, append paths to them and
// write them into files, so that there must be one form of each.
func trimSlash(url *string) {
	if url != nil {
		*url = strings.TrimSuffix(*url, "/")
	}
}

// SetDefaults_Volume sets the size of the volume.
func SetDefaults_Volume(volume *Volume) {
	if volume.Size == nil {
		volume.Size = ptr.To(resource.MustParse(defaultVolumeSize))
	}
}

// SetDefaults_GarbageCollection sets the time that content stays.
func SetDefaults_GarbageCollection(collection *GarbageCollection) {
	if collection.TTL == nil {
		collection.TTL = &metav1.Duration{Duration: defaultTTL}
	}
}

// SetDefaults_HTTP switches TLS on.
func SetDefaults_HTTP(http *HTTP) {
	if http.TLS == nil {
		http.TLS = ptr.To(true)
	}
}
