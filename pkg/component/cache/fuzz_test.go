// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache_test

import (
	"encoding/json"
	"fmt"
	goruntime "runtime"
	"strings"
	"testing"

	"github.com/Masterminds/semver/v3"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/larder-project/larder/pkg/apis/provider"
	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
	"github.com/larder-project/larder/pkg/apis/registry/validation"
	"github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/credentials"
)

const (
	// maxWork limits the bytes that are allocated in total for a configuration and the objects of its caches. It limits
	// time as well: slow code writes out long numbers, or compares everything with everything.
	maxWork = 64 << 20
	// maxErrorsSize limits the bytes of the errors of a configuration.
	maxErrorsSize = 4 * provider.MaxBytes
)

// FuzzRegistryConfig processes a configuration, valid or not, from the bytes of its owner to the deployed objects, as
// admission and the controller do.
func FuzzRegistryConfig(f *testing.F) {
	for _, seed := range configurations() {
		f.Add([]byte(seed))
	}
	registryCodec, err := codec.New()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var before, after goruntime.MemStats
		goruntime.ReadMemStats(&before)
		err := follow(registryCodec, raw)
		goruntime.ReadMemStats(&after)
		if err != nil {
			t.Error(err)
		}
		work := after.TotalAlloc - before.TotalAlloc
		if work > maxWork {
			t.Errorf("%d bytes of configuration allocate %d MiB", len(raw), work>>20)
		}
	})
}

// follow processes a configuration and returns an error if it violates an invariant.
func follow(registryCodec *codec.Codec, raw []byte) error {
	_ = provider.Same(raw, append([]byte(" "), raw...))
	owners := &runtime.RawExtension{Raw: raw}
	strict, strictErr := registryCodec.DecodeConfigStrict(owners)
	config, err := registryCodec.DecodeConfig(owners)
	if err != nil {
		if strictErr == nil || runtime.IsStrictDecodingError(strictErr) {
			return fmt.Errorf("admission decodes a configuration that the controller does not: %w", err)
		}
		return nil
	}

	errs := validation.ValidateRegistryConfig(config, field.NewPath("providerConfig"))
	if size := len(fmt.Sprint(errs)); size > maxErrorsSize {
		return fmt.Errorf("errors have %d bytes", size)
	}
	if len(config.Caches) > 0 {
		if errs := validation.ValidateRegistryConfigUpdate(strict, config, field.NewPath("providerConfig")); len(errs) > 0 {
			return fmt.Errorf("an unchanged configuration is refused: %w", errs.ToAggregate())
		}
	}
	for _, item := range config.Caches {
		if err := build(item); err != nil && len(errs) == 0 {
			return fmt.Errorf("a valid cache cannot be deployed: %w", err)
		}
	}
	return nil
}

// build renders all objects of a cache.
func build(item registry.RegistryCache) error {
	values := cache.Values{
		Cache:                 item,
		Image:                 "example.com/registry-cache-server:v1",
		Credential:            &credentials.Named{Name: "robot-v1", Material: credentials.Static(credentials.Credential{Username: "john", Password: "example"})},
		Connection:            cache.Connection{CABundle: []byte("CA"), ProxyCredential: &credentials.Credential{Username: "john", Password: "example"}},
		KubernetesVersion:     semver.MustParse("1.36.3"),
		VerticalPodAutoscaler: true,
	}
	if values.ServesTLS() {
		values.Certificate = &cache.Certificate{Certificate: []byte("certificate"), Key: []byte("key")}
	}
	objects, err := cache.Objects(values)
	if err != nil {
		return err
	}
	for _, object := range append(objects, cache.Service(values)) {
		if _, err := json.Marshal(object); err != nil {
			return err
		}
	}
	return nil
}

// configurations returns the seeds: usual configurations and hostile ones.
func configurations() []string {
	config := func(caches string) string {
		return `{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig","caches":[` + caches + `]}`
	}
	many := func(count int, format string) string {
		caches := make([]string, count)
		for i := range caches {
			caches[i] = strings.ReplaceAll(format, "#", fmt.Sprint(i))
		}
		return config(strings.Join(caches, ","))
	}
	return []string{
		config(`{"upstream":"docker.io"}`),
		config(`{"upstream":"quay.io:443","remoteURL":"http://quay/","volume":{"size":"1Gi","storageClassName":"x"},"garbageCollection":{"ttl":"0s"},` +
			`"secretReferenceName":"s","proxy":{"httpProxy":"http://p/","httpsProxy":"http://q"},"http":{"tls":false},"highAvailability":{"enabled":true},"serviceNameSuffix":"q"}`),
		config(`{"upstream":"quay.io","caBundleSecretReferenceName":"ca","clientCertificateSecretReferenceName":"c","allowedRealms":["a.b","null"],"timeouts":{"firstByte":"2m"},` +
			`"proxy":{"httpsProxy":"http://p","noProxy":["a","*","10.0.0.0/8",","],"secretReferenceName":"p"}}`),
		config(`{"upstream":"docker.io","timeouts":{"firstByte":"-1s"}}`),
		config(`{"upstream":"docker.io","volume":{"size":1e999999999}}`),
		config(`{"upstream":"docker.io","volume":{"size":"1e-9000000"}}`),
		config(`{"upstream":"docker.io","volume":{"size":"` + strings.Repeat("9", 1000) + `"}}`),
		config(`{"upstream":"docker.io","volume":{"size":"1e99"}},{"upstream":"quay.io","volume":{"size":"1e-99"}}`),
		config(`{"upstream":"docker.io","volume":{"size":"-5Gi"},"volume":{"size":"1e999999999"},"volume":{}}`),
		config(`{"upstream":"docker.io","garbageCollection":{"ttl":"2562047h"}}`),
		config(`{"upstream":"docker.io","http":{"tls":null},"highAvailability":{"enabled":null}}`),
		config(`{"upstream":"a.b"},{"upstream":"a-b"},{"upstream":"c","serviceNameSuffix":"a-b"},{"upstream":"a.b"}`),
		many(2000, `{"upstream":"docker.io"}`),
		many(provider.MaxItems, `{"upstream":"r#.io","serviceNameSuffix":"s"}`),
		many(4000, `{"upstream":"r#.io"}`),
		config(`{"upstream":"` + strings.Repeat("A", 200_000) + `"}`),
		config(`{"upstream":"docker.io","remoteURL":"https://` + strings.Repeat("[", 200_000) + `"}`),
		`{"kind":"` + strings.Repeat("x", 200_000) + `"}`,
		strings.Repeat(`[`, 100_000) + strings.Repeat(`]`, 100_000),
		`[` + strings.Repeat(`0,`, 100_000) + `0]`,
		"caches: &a [*a]",
	}
}
