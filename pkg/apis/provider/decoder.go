// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package provider decodes the raw provider configurations and statuses of
// Gardener's extensions. Owners of Shoots write the configurations. Their size,
// nesting and numbers are checked as text before anything is parsed: a
// configuration that passes is cheap to parse, to compare and to print.
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

// maxMessageLength is the length of an error that may quote the document.
const maxMessageLength = 512

// Decoder decodes the types of an API group. Only JSON and registered external
// versions are read; what is decoded has its defaults.
type Decoder struct {
	scheme  *runtime.Scheme
	example schema.GroupVersion
	checks  map[string]TextCheck
	strict  runtime.Decoder
	lenient runtime.Decoder
}

// TextCheck returns what is wrong with the text of a field that is written as
// text and parsed into something else, or an empty string.
type TextCheck func(text string) string

// NewDecoder returns a decoder for the types of a scheme. The example is a
// version that can be used, to be named in errors. The checks are those of all
// fields that are quantities or durations, by the names that lead to them, with
// dots between; lists are passed through.
func NewDecoder(scheme *runtime.Scheme, example schema.GroupVersion, checks map[string]TextCheck) *Decoder {
	return &Decoder{
		scheme:  scheme,
		example: example,
		checks:  checks,
		strict:  serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer(),
		lenient: serializer.NewCodecFactory(scheme).UniversalDeserializer(),
	}
}

// DecodeStrict decodes into an internal type. Unknown and duplicate fields are
// errors, but all else is decoded if there is nothing worse.
func (d *Decoder) DecodeStrict(raw *runtime.RawExtension, into runtime.Object) error {
	return d.decodeForeign(d.strict, raw, into)
}

// Decode decodes into an internal type, and ignores fields that it does not know.
func (d *Decoder) Decode(raw *runtime.RawExtension, into runtime.Object) error {
	return d.decodeForeign(d.lenient, raw, into)
}

// DecodeOwn is Decode for a status, which only the extension itself writes. It
// has no limits, so that an extension can always read its own status.
func (d *Decoder) DecodeOwn(raw *runtime.RawExtension, into runtime.Object) error {
	return d.decode(d.lenient, raw, into)
}

// decodeForeign checks what owners write before anything parses it.
func (d *Decoder) decodeForeign(decoder runtime.Decoder, raw *runtime.RawExtension, into runtime.Object) error {
	if raw != nil && len(raw.Raw) > 0 {
		if _, err := readDocument(raw.Raw, d.checks); err != nil {
			return err
		}
	}
	return d.decode(decoder, raw, into)
}

// decode reads the external version first and converts then: the codec
// factory's own decoders to the internal version would also accept that
// version, and untyped input with Go's field names, from an owner.
func (d *Decoder) decode(decoder runtime.Decoder, raw *runtime.RawExtension, into runtime.Object) error {
	if raw == nil || len(raw.Raw) == 0 {
		return ErrMissing
	}
	external, gvk, strictErr := decoder.Decode(raw.Raw, nil, nil)
	if strictErr != nil && !runtime.IsStrictDecodingError(strictErr) {
		return brief(strictErr)
	}
	if gvk.Version == runtime.APIVersionInternal {
		return brief(fmt.Errorf("apiVersion %q is not one of the versions of %s that can be used, for example %s", gvk.GroupVersion(), d.example.Group, d.example))
	}
	d.scheme.Default(external)
	if err := d.scheme.Convert(external, into, nil); err != nil {
		return brief(fmt.Errorf("kind %s of %s cannot be used here: %w", gvk.Kind, gvk.GroupVersion(), err))
	}
	return strictErr
}

// brief shortens an error that quotes the document.
func brief(err error) error {
	if len(err.Error()) <= maxMessageLength {
		return err
	}
	return errors.New(cut(err.Error(), maxMessageLength))
}
