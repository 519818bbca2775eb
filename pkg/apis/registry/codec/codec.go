// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package codec turns the raw provider configuration and provider status of a
// registry-cache extension into internal types and back.
package codec

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/install"
	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
)

// ErrMissing is returned when there is nothing to decode.
var ErrMissing = errors.New("is missing")

// Codec decodes and encodes the types of the API group. Only registered
// external versions are read and written; what is decoded has its defaults.
type Codec struct {
	scheme  *runtime.Scheme
	strict  runtime.Decoder
	lenient runtime.Decoder
	encoder runtime.Encoder
}

// New returns a codec.
func New() (*Codec, error) {
	scheme := runtime.NewScheme()
	if err := install.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("could not register the API group %s: %w", registry.GroupName, err)
	}
	lenient := serializer.NewCodecFactory(scheme)
	strict := serializer.NewCodecFactory(scheme, serializer.EnableStrict)
	jsonSerializer := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{})
	return &Codec{
		scheme:  scheme,
		strict:  strict.UniversalDeserializer(),
		lenient: lenient.UniversalDeserializer(),
		encoder: lenient.EncoderForVersion(jsonSerializer, v1alpha3.SchemeGroupVersion),
	}, nil
}

// DecodeConfigStrict decodes what an owner wrote and refuses unknown and duplicate fields.
func (c *Codec) DecodeConfigStrict(raw *runtime.RawExtension) (*registry.RegistryConfig, error) {
	config := &registry.RegistryConfig{}
	return config, c.decode(c.strict, raw, config)
}

// DecodeConfig decodes what admission let pass. Fields that this version does
// not know are ignored: the admission component may be newer than the controller.
func (c *Codec) DecodeConfig(raw *runtime.RawExtension) (*registry.RegistryConfig, error) {
	config := &registry.RegistryConfig{}
	return config, c.decode(c.lenient, raw, config)
}

// DecodeStatus decodes the provider status of an Extension.
func (c *Codec) DecodeStatus(raw *runtime.RawExtension) (*registry.RegistryStatus, error) {
	status := &registry.RegistryStatus{}
	return status, c.decode(c.lenient, raw, status)
}

// EncodeStatus encodes the provider status of an Extension.
func (c *Codec) EncodeStatus(status *registry.RegistryStatus) (*runtime.RawExtension, error) {
	data, err := runtime.Encode(c.encoder, status)
	if err != nil {
		return nil, fmt.Errorf("could not encode the provider status: %w", err)
	}
	return &runtime.RawExtension{Raw: data}, nil
}

// decode reads the external version first and converts then: the codec
// factory's own decoders to the internal version would also accept that
// version, and untyped input with Go's field names, from an owner.
func (c *Codec) decode(decoder runtime.Decoder, raw *runtime.RawExtension, into runtime.Object) error {
	if raw == nil || len(raw.Raw) == 0 {
		return ErrMissing
	}
	external, gvk, err := decoder.Decode(raw.Raw, nil, nil)
	if err != nil {
		return err
	}
	if gvk.Version == runtime.APIVersionInternal {
		return fmt.Errorf("apiVersion %q is not one of the versions of %s that can be used, for example %s", gvk.GroupVersion(), registry.GroupName, v1alpha3.SchemeGroupVersion)
	}
	c.scheme.Default(external)
	if err := c.scheme.Convert(external, into, nil); err != nil {
		return fmt.Errorf("kind %s of %s cannot be used here: %w", gvk.Kind, gvk.GroupVersion(), err)
	}
	return nil
}
