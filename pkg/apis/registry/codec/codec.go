// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package codec turns the raw provider configuration and provider status of a
// registry-cache extension into internal types and back.
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

// ErrMissing is returned when there is nothing to decode.
var ErrMissing = provider.ErrMissing

// Codec decodes and encodes the types of the API group. Only registered
// external versions are read and written; what is decoded has its defaults.
type Codec struct {
	decoder *provider.Decoder
	encoder runtime.Encoder
}

// New returns a codec.
func New() (*Codec, error) {
	scheme := runtime.NewScheme()
	if err := install.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("registering the API group %s: %w", registry.GroupName, err)
	}
	jsonSerializer := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{})
	return &Codec{
		decoder: provider.NewDecoder(scheme, v1alpha3.SchemeGroupVersion, map[string]provider.TextCheck{
			"caches.volume.size":           provider.CheckQuantity,
			"caches.garbageCollection.ttl": provider.CheckDuration,
			"caches.tagValidation.timeout": provider.CheckDuration,
		}),
		encoder: serializer.NewCodecFactory(scheme).EncoderForVersion(jsonSerializer, v1alpha3.SchemeGroupVersion),
	}, nil
}

// DecodeConfigStrict decodes what an owner wrote. Unknown and duplicate fields
// are an error that [runtime.IsStrictDecodingError] knows; with it comes what
// [Codec.DecodeConfig] would return.
func (c *Codec) DecodeConfigStrict(raw *runtime.RawExtension) (*registry.RegistryConfig, error) {
	config := &registry.RegistryConfig{}
	return config, c.decoder.DecodeStrict(raw, config)
}

// DecodeConfig decodes what admission let pass. Fields that this version does
// not know are ignored: the admission component may be newer than the controller.
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
		return nil, fmt.Errorf("encoding the provider status: %w", err)
	}
	return &runtime.RawExtension{Raw: data}, nil
}
