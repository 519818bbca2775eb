// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package provider decodes the raw provider configurations and statuses of Gardener extensions. Since owners write the
// configurations, it checks size, nesting and numbers on the text before anything is parsed: an accepted configuration
// is cheap to parse, to compare and to print.
package provider

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
)

// ErrMissing is returned if there is nothing to decode.
var ErrMissing = errors.New("document is missing")

// maxMessageLength limits an error that may quote the document.
const maxMessageLength = 512

// Decoder decodes the types of an API group. It accepts only JSON and registered external versions and sets the
// defaults of decoded objects.
type Decoder struct {
	scheme  *runtime.Scheme
	example schema.GroupVersion
	checks  map[string]TextCheck
	strict  runtime.Decoder
	lenient runtime.Decoder
}

// TextCheck validates the text from which a field is parsed. It returns the problem, or an empty string.
type TextCheck func(text string) string

// NewDecoder returns a decoder for the types of a scheme. Errors name the example as a supported version. The checks
// apply to all fields that are quantities or durations. Their keys are the field names on the path, joined by dots and
// without list indices.
func NewDecoder(scheme *runtime.Scheme, example schema.GroupVersion, checks map[string]TextCheck) *Decoder {
	return &Decoder{
		scheme:  scheme,
		example: example,
		checks:  checks,
		strict:  serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer(),
		lenient: serializer.NewCodecFactory(scheme).UniversalDeserializer(),
	}
}

// DecodeStrict decodes into an internal type. It returns an error for unknown and duplicate fields, but still decodes
// the others unless there is another error.
func (d *Decoder) DecodeStrict(raw *runtime.RawExtension, into runtime.Object) error {
	return d.decodeForeign(d.strict, raw, into)
}

// Decode decodes into an internal type and ignores unknown fields.
func (d *Decoder) Decode(raw *runtime.RawExtension, into runtime.Object) error {
	return d.decodeForeign(d.lenient, raw, into)
}

// DecodeOwn is like Decode for a status, which only the extension itself writes. It has no limits, so that an extension
// can always read its own status.
func (d *Decoder) DecodeOwn(raw *runtime.RawExtension, into runtime.Object) error {
	return d.decode(d.lenient, raw, into)
}

// decodeForeign checks the text of a configuration before it is parsed.
func (d *Decoder) decodeForeign(decoder runtime.Decoder, raw *runtime.RawExtension, into runtime.Object) error {
	if raw != nil && len(raw.Raw) > 0 {
		if _, err := readDocument(raw.Raw, d.checks); err != nil {
			return err
		}
	}
	return d.decode(decoder, raw, into)
}

// decode decodes the external version and then converts it: the codec factory's decoders to the internal version would
// also accept an internal version or untyped input with Go field names from an owner.
func (d *Decoder) decode(decoder runtime.Decoder, raw *runtime.RawExtension, into runtime.Object) error {
	if raw == nil || len(raw.Raw) == 0 {
		return ErrMissing
	}
	external, gvk, strictErr := decoder.Decode(raw.Raw, nil, nil)
	if strictErr != nil && !runtime.IsStrictDecodingError(strictErr) {
		return brief(strictErr)
	}
	if gvk.Version == runtime.APIVersionInternal {
		return brief(fmt.Errorf("apiVersion %q is not a supported version of %s, use for example %s", gvk.GroupVersion(), d.example.Group, d.example))
	}
	d.scheme.Default(external)
	if err := d.scheme.Convert(external, into, nil); err != nil {
		return brief(fmt.Errorf("kind %s of %s is not supported here: %w", gvk.Kind, gvk.GroupVersion(), err))
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
