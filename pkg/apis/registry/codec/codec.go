// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package codec converts between the raw providerConfig and provider status of the registry-cache extension and the
// internal types.
package codec

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"

	"github.com/larder-project/larder/pkg/apis/provider"
	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/install"
	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
)

// ErrMissing is returned if there is nothing to decode.
var ErrMissing = provider.ErrMissing

// Codec decodes and encodes the types of the API group. It accepts only registered external versions and sets the
// defaults of decoded objects.
type Codec struct {
	decoder *provider.Decoder
	encoder runtime.Encoder
}

// New returns a codec.
func New() (*Codec, error) {
	scheme := runtime.NewScheme()
	if err := install.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("register API group %s: %w", registry.GroupName, err)
	}
	jsonSerializer := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{})
	return &Codec{
		decoder: provider.NewDecoder(scheme, v1alpha3.SchemeGroupVersion, map[string]provider.TextCheck{
			"caches.volume.size":                provider.CheckQuantity,
			"caches.garbageCollection.ttl":      provider.CheckDuration,
			"caches.tagValidation.timeout":      provider.CheckDuration,
			"caches.timeouts.firstByte":         provider.CheckDuration,
			"caches.access.grantDuration":       provider.CheckDuration,
			"caches.access.outageGrantDuration": provider.CheckDuration,
			"caches.accounts.rotationPeriod":    provider.CheckDuration,
		}),
		encoder: serializer.NewCodecFactory(scheme).EncoderForVersion(jsonSerializer, v1alpha3.SchemeGroupVersion),
	}, nil
}

// DecodeConfigStrict decodes the configuration of an owner. For unknown and duplicate fields it returns an error that
// [runtime.IsStrictDecodingError] recognizes, together with the result of [Codec.DecodeConfig].
func (c *Codec) DecodeConfigStrict(raw *runtime.RawExtension) (*registry.RegistryConfig, error) {
	config := &registry.RegistryConfig{}
	return config, c.decoder.DecodeStrict(raw, config)
}

// DecodeConfig decodes an admitted configuration. It ignores unknown fields, since the admission component may be newer
// than the controller.
func (c *Codec) DecodeConfig(raw *runtime.RawExtension) (*registry.RegistryConfig, error) {
	config := &registry.RegistryConfig{}
	return config, c.decoder.Decode(raw, config)
}

// DecodeStatus decodes the provider status of an Extension.
func (c *Codec) DecodeStatus(raw *runtime.RawExtension) (*registry.RegistryStatus, error) {
	status := &registry.RegistryStatus{}
	return status, c.decoder.DecodeOwn(raw, status)
}

// EncodeStatus encodes the provider status of an Extension.
func (c *Codec) EncodeStatus(status *registry.RegistryStatus) (*runtime.RawExtension, error) {
	data, err := runtime.Encode(c.encoder, status)
	if err != nil {
		return nil, fmt.Errorf("encode provider status: %w", err)
	}
	return &runtime.RawExtension{Raw: data}, nil
}
