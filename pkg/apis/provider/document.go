// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// These limits bound the work that a document can cause, at admission and in the controller. A document that exceeds
// them is never decoded. They are far above the limits of the validation, so that no configuration in use reaches them.
const (
	// MaxBytes is three times the size of 150 caches that set every field.
	MaxBytes = 256 << 10
	// MaxValues limits the number of objects, lists and scalars; a cache has about 20.
	MaxValues = 10_000
	// MaxItems limits the number of items of a list.
	MaxItems = 250
	// MaxDepth limits the nesting of objects and lists; the APIs need 5 levels.
	MaxDepth = 16
	// maxNameLength limits the length of a field name.
	maxNameLength = 128
	// maxErrors limits the number of collected errors.
	maxErrors = 20
)

var errNotJSON = errors.New("is not valid JSON")

// InvalidError lists the fields of a document that cannot be decoded because of their size or text. Paths start at the
// root of the document.
type InvalidError struct {
	Errors field.ErrorList
}

// Error lists all fields.
func (e *InvalidError) Error() string {
	messages := make([]string, len(e.Errors))
	for i, err := range e.Errors {
		messages[i] = err.Error()
		if err.Field == "" {
			messages[i] = err.ErrorBody()
		}
	}
	return strings.Join(messages, ", ")
}

// document is a JSON document whose numbers are cheap to parse.
type document struct {
	root any
	// ambiguous reports whether an object has duplicate fields, ignoring case. Decoders differ: they use the first, use
	// the last, or merge the two.
	ambiguous bool
}

// Same reports whether two documents mean the same to every decoder, regardless of formatting and the order of fields.
func Same(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	first, err := readDocument(a, nil)
	if err != nil || first.ambiguous {
		return false
	}
	second, err := readDocument(b, nil)
	return err == nil && !second.ambiguous && reflect.DeepEqual(first.root, second.root)
}

// readDocument reads a document. It returns an [InvalidError] if the document exceeds the limits or fails a check.
func readDocument(raw []byte, checks map[string]TextCheck) (*document, error) {
	r := &documentReader{decoder: json.NewDecoder(bytes.NewReader(raw)), checks: checks}
	if len(raw) > MaxBytes {
		return nil, r.refuse("the configuration must have at most %d bytes", MaxBytes)
	}
	r.decoder.UseNumber()
	root, err := r.value()
	if err != nil {
		return nil, err
	}
	if _, err := r.decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errNotJSON
	}
	if len(r.errs) > 0 {
		return nil, &InvalidError{Errors: r.errs}
	}
	return &document{root: root, ambiguous: r.ambiguous}, nil
}

// documentReader reads token by token, which is the only way to see duplicate fields and the text of numbers.
type documentReader struct {
	decoder *json.Decoder
	// checks has the checks of texts by the field names on the path, see NewDecoder.
	checks map[string]TextCheck
	// steps is the path to the current value: names with a leading dot, and indices in brackets.
	steps     []string
	values    int
	ambiguous bool
	errs      field.ErrorList
}

// refuse returns an error for the current value that ends the reading.
func (r *documentReader) refuse(format string, args ...any) error {
	return &InvalidError{Errors: field.ErrorList{r.invalid(field.OmitValueType{}, fmt.Sprintf(format, args...))}}
}

// invalid returns an error for the current value.
func (r *documentReader) invalid(value any, detail string) *field.Error {
	err := field.Invalid(nil, value, detail)
	err.Field = strings.TrimPrefix(strings.Join(r.steps, ""), ".")
	return err
}

// report collects an error without ending the reading.
func (r *documentReader) report(text, problem string) {
	if len(r.errs) < maxErrors {
		r.errs = append(r.errs, r.invalid(abbreviate(text), problem))
	}
}

func (r *documentReader) value() (any, error) {
	if r.values++; r.values > MaxValues {
		return nil, r.refuse("the configuration has more than %d values", MaxValues)
	}
	if len(r.steps) > MaxDepth {
		return nil, r.refuse("the configuration is nested more than %d levels deep", MaxDepth)
	}
	token, err := r.decoder.Token()
	if err != nil {
		return nil, errNotJSON
	}
	switch token := token.(type) {
	case json.Delim:
		if token == '{' {
			return r.object()
		}
		return r.list()
	case json.Number:
		return r.number(token.String()), nil
	case string:
		r.check(token)
		return token, nil
	default:
		return token, nil
	}
}

func (r *documentReader) object() (any, error) {
	var (
		object = map[string]any{}
		folded = map[string]bool{}
	)
	for r.decoder.More() {
		token, err := r.decoder.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return nil, errNotJSON
		}
		if len(name) > maxNameLength {
			return nil, r.refuse("a field has a name of more than %d characters; remove it", maxNameLength)
		}
		if fold := strings.ToLower(name); folded[fold] {
			r.ambiguous = true
		} else {
			folded[fold] = true
		}
		if object[name], err = r.child("."+name, r.value); err != nil {
			return nil, err
		}
	}
	return object, r.end()
}

func (r *documentReader) list() (any, error) {
	list := []any{}
	for r.decoder.More() {
		if len(list) == MaxItems {
			return nil, r.refuse("the list has more than %d items", MaxItems)
		}
		value, err := r.child("["+strconv.Itoa(len(list))+"]", r.value)
		if err != nil {
			return nil, err
		}
		list = append(list, value)
	}
	return list, r.end()
}

// child reads the value one step below the current path.
func (r *documentReader) child(step string, read func() (any, error)) (any, error) {
	r.steps = append(r.steps, step)
	value, err := read()
	r.steps = r.steps[:len(r.steps)-1]
	return value, err
}

// end consumes the end of an object or list.
func (r *documentReader) end() error {
	if _, err := r.decoder.Token(); err != nil {
		return errNotJSON
	}
	return nil
}

// number returns a value such that equal numbers compare equal in Go regardless of their notation.
func (r *documentReader) number(text string) any {
	if problem := CheckNumber(text); problem != "" {
		r.report(text, problem)
		return nil
	}
	if integer, err := strconv.ParseInt(text, 10, 64); err == nil {
		return integer
	}
	const exact = 1 << 53
	number, err := strconv.ParseFloat(text, 64)
	if err == nil && number == math.Trunc(number) && math.Abs(number) < exact {
		return int64(number)
	}
	return number
}

// check checks a text while it is read, not in the tree: the tree keeps only one of two duplicate fields, while
// decoders merge them.
func (r *documentReader) check(text string) {
	if len(r.checks) == 0 {
		return
	}
	var names strings.Builder
	for _, step := range r.steps {
		if step[0] == '.' {
			names.WriteString(step)
		}
	}
	if check, ok := r.checks[strings.TrimPrefix(names.String(), ".")]; ok {
		if problem := check(text); problem != "" {
			r.report(text, problem)
		}
	}
}
