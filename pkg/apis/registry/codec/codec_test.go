// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package codec_test

import (
	"reflect"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
)

const header = `"apiVersion":"registry.extensions.gardener.cloud/v1alpha3"`

var _ = Describe("Codec", func() {
	var c *codec.Codec

	BeforeEach(func() {
		var err error
		c, err = codec.New()
		Expect(err).NotTo(HaveOccurred())
	})

	raw := func(text string) *runtime.RawExtension { return &runtime.RawExtension{Raw: []byte(text)} }

	defaulted := registry.RegistryCache{
		Upstream:          "docker.io",
		RemoteURL:         new("https://registry-1.docker.io"),
		Volume:            &registry.Volume{Size: new(resource.MustParse("10Gi"))},
		GarbageCollection: &registry.GarbageCollection{TTL: &metav1.Duration{Duration: 168 * time.Hour}},
		HTTP:              &registry.HTTP{TLS: new(true)},
		HighAvailability:  &registry.HighAvailability{},
		Access:            &registry.Access{Mode: registry.AccessCluster},
	}

	DescribeTable("decodes configurations and sets defaults",
		func(text string, expected registry.RegistryCache) {
			for _, decode := range []func(*runtime.RawExtension) (*registry.RegistryConfig, error){c.DecodeConfigStrict, c.DecodeConfig} {
				config, err := decode(raw(text))
				Expect(err).NotTo(HaveOccurred())
				Expect(config.Caches).To(ConsistOf(BeComparableTo(expected)))
			}
		},
		Entry("only the upstream", `{`+header+`,"kind":"RegistryConfig","caches":[{"upstream":"docker.io"}]}`, defaulted),
		Entry("empty blocks", `{`+header+`,"kind":"RegistryConfig","caches":[{"upstream":"docker.io","volume":{},"garbageCollection":{},"http":{},"highAvailability":{},"access":{},"proxy":null}]}`, defaulted),
		Entry("null in blocks", `{`+header+`,"kind":"RegistryConfig","caches":[{"upstream":"docker.io","volume":{"size":null},"garbageCollection":{"ttl":null},"http":{"tls":null}}]}`, defaulted),
		Entry("all fields", `{`+header+`,"kind":"RegistryConfig","caches":[{"upstream":"quay.io:443","remoteURL":"http://quay","volume":{"size":"1Gi","storageClassName":"x"},`+
			`"garbageCollection":{"ttl":"0s"},"secretReferenceName":"s","proxy":{"httpProxy":"http://p","httpsProxy":"http://q","noProxy":["n"],"secretReferenceName":"p"},"http":{"tls":false},"highAvailability":{"enabled":true},"serviceNameSuffix":"q","tagValidation":{"timeout":"20s"},`+
			`"caBundleSecretReferenceName":"ca","clientCertificateSecretReferenceName":"client","allowedRealms":["auth"],"timeouts":{"firstByte":"2m"},`+
			`"access":{"mode":"PullSecrets","grantDuration":"1m","outageGrantDuration":"1h"},"accounts":[{"name":"a","namespaces":["n"],"repositories":["r"],"rotationPeriod":"2h"}]}]}`,
			registry.RegistryCache{
				Upstream:            "quay.io:443",
				RemoteURL:           new("http://quay"),
				Volume:              &registry.Volume{Size: new(resource.MustParse("1Gi")), StorageClassName: new("x")},
				GarbageCollection:   &registry.GarbageCollection{TTL: &metav1.Duration{}},
				SecretReferenceName: new("s"),
				Proxy:               &registry.Proxy{HTTPProxy: new("http://p"), HTTPSProxy: new("http://q"), NoProxy: []string{"n"}, SecretReferenceName: new("p")},
				HTTP:                &registry.HTTP{TLS: new(false)},
				HighAvailability:    &registry.HighAvailability{Enabled: true},
				ServiceNameSuffix:   new("q"),
				TagValidation:       &registry.TagValidation{Timeout: &metav1.Duration{Duration: 20 * time.Second}},

				CABundleSecretReferenceName: new("ca"), ClientCertificateSecretReferenceName: new("client"),
				AllowedRealms: []string{"auth"}, Timeouts: &registry.Timeouts{FirstByte: &metav1.Duration{Duration: 2 * time.Minute}},

				Access: &registry.Access{
					Mode: registry.AccessPullSecrets, GrantDuration: &metav1.Duration{Duration: time.Minute}, OutageGrantDuration: &metav1.Duration{Duration: time.Hour},
				},
				Accounts: []registry.Account{{Name: "a", Namespaces: []string{"n"}, Repositories: []string{"r"}, RotationPeriod: &metav1.Duration{Duration: 2 * time.Hour}}},
			}),
	)

	DescribeTable("refuses all but a RegistryConfig in an external version",
		func(text, message string) {
			for _, decode := range []func(*runtime.RawExtension) (*registry.RegistryConfig, error){c.DecodeConfigStrict, c.DecodeConfig} {
				_, err := decode(raw(text))
				Expect(err).To(MatchError(ContainSubstring(message)))
			}
		},
		Entry("nothing", ``, "is missing"),
		Entry("null", `null`, "Kind"),
		Entry("no type", `{"caches":[{"upstream":"docker.io"}]}`, "Kind"),
		Entry("Go's field names without a type", `{"Caches":[{"Upstream":"docker.io"}]}`, "Kind"),
		Entry("internal version", `{"apiVersion":"registry.extensions.gardener.cloud/__internal","kind":"RegistryConfig","Caches":[{"Upstream":"docker.io"}]}`, "__internal"),
		Entry("unknown version", `{"apiVersion":"registry.extensions.gardener.cloud/v1","kind":"RegistryConfig"}`, "v1"),
		Entry("other group", `{"apiVersion":"v1","kind":"Secret"}`, "Secret"),
		Entry("other kind", `{`+header+`,"kind":"RegistryStatus"}`, "RegistryStatus"),
		Entry("list", `[]`, ""),
		Entry("wrong type of a field", `{`+header+`,"kind":"RegistryConfig","caches":[{"upstream":1}]}`, "upstream"),
		Entry("invalid duration", `{`+header+`,"kind":"RegistryConfig","caches":[{"upstream":"x","garbageCollection":{"ttl":"soon"}}]}`, "duration"),
	)

	DescribeTable("is strict with owners, but not with admitted configurations",
		func(text, message string) {
			_, err := c.DecodeConfigStrict(raw(text))
			Expect(runtime.IsStrictDecodingError(err)).To(BeTrue())
			Expect(err).To(MatchError(ContainSubstring(message)))

			config, err := c.DecodeConfig(raw(text))
			Expect(err).NotTo(HaveOccurred())
			Expect(config.Caches).To(ConsistOf(BeComparableTo(defaulted)))
		},
		Entry("unknown field", `{`+header+`,"kind":"RegistryConfig","caches":[{"upstream":"docker.io","x":1}]}`, `unknown field "caches[0].x"`),
		Entry("Go's field name", `{`+header+`,"kind":"RegistryConfig","caches":[{"upstream":"docker.io","RemoteURL":"https://x"}]}`, `unknown field "caches[0].RemoteURL"`),
		Entry("duplicate field", `{`+header+`,"kind":"RegistryConfig","caches":[{"upstream":"quay.io","upstream":"docker.io"}]}`, `duplicate field "caches[0].upstream"`),
	)

	DescribeTable("refuses numbers by their text, strict or not",
		func(cache, field string) {
			text := `{` + header + `,"kind":"RegistryConfig","caches":[{"upstream":"quay.io"},{"upstream":"docker.io",` + cache + `}]}`
			for _, decode := range []func(*runtime.RawExtension) (*registry.RegistryConfig, error){c.DecodeConfigStrict, c.DecodeConfig} {
				_, err := decode(raw(text))
				Expect(err).To(MatchError(HavePrefix("caches[1]." + field + ": Invalid value: ")))
			}
		},
		Entry("size", `"volume":{"size":1e999999999}`, "volume.size"),
		Entry("size as text", `"volume":{"size":"1e999999999"}`, "volume.size"),
		Entry("tiny size", `"volume":{"size":"1e-9000000"}`, "volume.size"),
		Entry("long size", `"volume":{"size":"`+strings.Repeat("1", 100)+`"}`, "volume.size"),
		Entry("invalid size", `"volume":{"size":"large"}`, "volume.size"),
		Entry("size hidden by a duplicate field", `"volume":{"size":"1e999999999"},"volume":{}`, "volume.size"),
		Entry("time to live", `"garbageCollection":{"ttl":"1e999999999h"}`, "garbageCollection.ttl"),
		Entry("long time to live", `"garbageCollection":{"ttl":"`+strings.Repeat("1h", 50_000)+`"}`, "garbageCollection.ttl"),
		Entry("time to validate", `"tagValidation":{"timeout":"`+strings.Repeat("1h", 50_000)+`"}`, "tagValidation.timeout"),
		Entry("time for the first byte", `"timeouts":{"firstByte":"`+strings.Repeat("1h", 50_000)+`"}`, "timeouts.firstByte"),
		Entry("time of grants", `"access":{"grantDuration":"`+strings.Repeat("1h", 50_000)+`"}`, "access.grantDuration"),
		Entry("time of grants in outages", `"access":{"outageGrantDuration":"`+strings.Repeat("1h", 50_000)+`"}`, "access.outageGrantDuration"),
		Entry("time of rotations", `"accounts":[{"rotationPeriod":"`+strings.Repeat("1h", 50_000)+`"}]`, "accounts[0].rotationPeriod"),
		Entry("time to live that exceeds a duration", `"garbageCollection":{"ttl":"99999999h"}`, "garbageCollection.ttl"),
	)

	It("decodes sizes of existing Shoots and leaves them to the validation", func() {
		for _, size := range []string{`"10e9"`, `10e9`, `"1E3"`, `"0.5"`, `"-1"`, `"5Ei"`, `" 1Gi "`} {
			config, err := c.DecodeConfig(raw(`{` + header + `,"kind":"RegistryConfig","caches":[{"upstream":"docker.io","volume":{"size":` + size + `}}]}`))
			Expect(err).NotTo(HaveOccurred())
			Expect(config.Caches[0].Volume.Size).NotTo(BeNil(), size)
		}
	})

	It("checks all fields that are parsed from text", func() {
		for _, path := range parsedFields(reflect.TypeFor[v1alpha3.RegistryConfig](), nil) {
			names := strings.Split(path, ".")
			document := `"no number"`
			for _, name := range slices.Backward(names) {
				name, isList := strings.CutSuffix(name, "[0]")
				if isList {
					document = `[` + document + `]`
				}
				document = `{"` + name + `":` + document + `}`
			}
			document = strings.Replace(document, `{`, `{`+header+`,"kind":"RegistryConfig",`, 1)
			_, err := c.DecodeConfig(raw(document))
			Expect(err).To(MatchError(HavePrefix(path+": Invalid value: ")), document)
		}
	})

	It("returns the configuration together with strict decoding errors", func() {
		config, err := c.DecodeConfigStrict(raw(`{` + header + `,"kind":"RegistryConfig","caches":[{"upstream":"docker.io","x":1}]}`))
		Expect(runtime.IsStrictDecodingError(err)).To(BeTrue())
		Expect(config.Caches).To(ConsistOf(BeComparableTo(defaulted)))
	})

	It("returns ErrMissing if there is nothing to decode", func() {
		_, err := c.DecodeConfigStrict(nil)
		Expect(err).To(MatchError(codec.ErrMissing))
		_, err = c.DecodeStatus(nil)
		Expect(err).To(MatchError(codec.ErrMissing))
	})

	It("decodes its own status of any size", func() {
		status := &registry.RegistryStatus{Caches: make([]registry.RegistryCacheStatus, 1000)}
		for i := range status.Caches {
			status.Caches[i] = registry.RegistryCacheStatus{Upstream: "docker.io", RemoteURL: strings.Repeat("x", 1000)}
		}
		encoded, err := c.EncodeStatus(status)
		Expect(err).NotTo(HaveOccurred())
		Expect(c.DecodeStatus(encoded)).To(HaveField("Caches", HaveLen(1000)))
	})

	It("round-trips the status", func() {
		status := &registry.RegistryStatus{
			CASecretName: new("ca"),
			Caches:       []registry.RegistryCacheStatus{{Upstream: "docker.io", Endpoint: "https://10.0.0.1:5000", RemoteURL: "https://registry-1.docker.io"}},
		}
		encoded, err := c.EncodeStatus(status)
		Expect(err).NotTo(HaveOccurred())
		Expect(encoded.Raw).To(MatchJSON(`{` + header + `,"kind":"RegistryStatus","caSecretName":"ca",` +
			`"caches":[{"upstream":"docker.io","endpoint":"https://10.0.0.1:5000","remoteURL":"https://registry-1.docker.io"}]}`))
		Expect(c.DecodeStatus(encoded)).To(Equal(status))
	})
})

// parsedFields returns the paths of all fields of a type that are parsed from text: JSON names joined by dots, with the
// index of the first entry of a list.
func parsedFields(t reflect.Type, names []string) []string {
	switch t {
	case reflect.TypeFor[resource.Quantity](), reflect.TypeFor[metav1.Duration]():
		return []string{strings.Join(names, ".")}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return parsedFields(t.Elem(), names)
	case reflect.Slice:
		names = slices.Clone(names)
		names[len(names)-1] += "[0]"
		return parsedFields(t.Elem(), names)
	case reflect.Struct:
		var paths []string
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			if name != "" {
				paths = append(paths, parsedFields(t.Field(i).Type, append(slices.Clone(names), name))...)
			}
		}
		return paths
	}
	return nil
}
