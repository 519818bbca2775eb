// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package install_test

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/apitesting/roundtrip"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/randfill"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/install"
)

// TestRoundTrip encodes random objects in every external version, decodes them and compares the results.
func TestRoundTrip(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := install.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	roundtrip.RoundTripTestForScheme(t, scheme, fuzzerFuncs)
}

// randomURL returns a text without the trailing slash, which decoding removes from URLs.
func randomURL(c randfill.Continue) *string {
	return new(strings.TrimRight(c.String(0), "/"))
}

// fuzzerFuncs set every field that has a default.
func fuzzerFuncs(serializer.CodecFactory) []any {
	return []any{
		func(cache *registry.RegistryCache, c randfill.Continue) {
			c.FillNoCustom(cache)
			cache.RemoteURL = randomURL(c)
			if cache.Volume == nil {
				cache.Volume = &registry.Volume{}
			}
			cache.Volume.Size = resource.NewQuantity(c.Int63(), resource.BinarySI)
			cache.GarbageCollection = &registry.GarbageCollection{TTL: &metav1.Duration{Duration: time.Duration(c.Int63())}}
			cache.HTTP = &registry.HTTP{TLS: new(c.Bool())}
			if cache.HighAvailability == nil {
				cache.HighAvailability = &registry.HighAvailability{}
			}
			cache.Access = &registry.Access{
				Mode:          registry.AccessMode(c.String(0) + "x"),
				GrantDuration: &metav1.Duration{Duration: time.Duration(c.Int63())}, OutageGrantDuration: &metav1.Duration{Duration: time.Duration(c.Int63())},
			}
		},
		func(proxy *registry.Proxy, c randfill.Continue) {
			c.FillNoCustom(proxy)
			proxy.HTTPProxy, proxy.HTTPSProxy = randomURL(c), randomURL(c)
		},
		func(account *registry.Account, c randfill.Continue) {
			c.FillNoCustom(account)
			account.RotationPeriod = &metav1.Duration{Duration: time.Duration(c.Int63())}
		},
		func(volume *registry.Volume, c randfill.Continue) {
			if c.Bool() {
				volume.StorageClassName = new(c.String(0))
			}
		},
	}
}
