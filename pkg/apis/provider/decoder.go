// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package provider decodes the raw provider configurations and statuses of
// Gardener's extensions.
package provider

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
)

// ErrMissing is returned when there is nothing to decode.
var ErrMissing = errors.New("is missing")

// Decoder decodes the types of an API group. Only registered external versions
// are read; what is decoded has its defaults.
type Decoder struct {
	scheme  *runtime.Scheme
	example schema.GroupVersion
	strict  runtime.Decoder
	lenient runtime.Decoder
}

// NewDecoder returns a decoder for the types of a scheme. The example is a
// version that can be used, to be named in errors.
func NewDecoder(scheme *runtime.Scheme, example schema.GroupVersion) *Decoder {
	return &Decoder{
		scheme:  scheme,
		example: example,
		strict:  serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer(),
		lenient: serializer.NewCodecFactory(scheme).UniversalDeserializer(),
	}
}

// DecodeStrict decodes into an internal type, and refuses unknown and duplicate fields.
func (d *Decoder) DecodeStrict(raw *runtime.RawExtension, into runtime.Object) error {
	return d.decode(d.strict, raw, into)
}

// Decode decodes into an internal type, and ignores fields that it does not know.
func (d *Decoder) Decode(raw *runtime.RawExtension, into runtime.Object) error {
	return d.decode(d.lenient, raw, into)
}

// decode reads the external version first and converts then: the codec
// factory's own decoders to the internal version would also accept that
// version, and untyped input with Go's field names, from an owner.
func (d *Decoder) decode(decoder runtime.Decoder, raw *runtime.RawExtension, into runtime.Object) error {
	if raw == nil || len(raw.Raw) == 0 {
		return ErrMissing
	}
	external, gvk, err := decoder.Decode(raw.Raw, nil, nil)
	if err != nil {
		return err
	}
	if gvk.Version == runtime.APIVersionInternal {
		return fmt.Errorf("apiVersion %q is not one of the versions of %s that can be used, for example %s", gvk.GroupVersion(), d.example.Group, d.example)
	}
	d.scheme.Default(external)
	if err := d.scheme.Convert(external, into, nil); err != nil {
		return fmt.Errorf("kind %s of %s cannot be used here: %w", gvk.Kind, gvk.GroupVersion(), err)
	}
	return nil
}
