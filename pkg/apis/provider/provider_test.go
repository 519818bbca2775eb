// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package provider_test

import (
	"fmt"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/larder-project/larder/pkg/apis/provider"
)

var _ = Describe("Same", func() {
	DescribeTable("compares the meaning of documents",
		func(a, b string, expected bool) {
			Expect(provider.Same([]byte(a), []byte(b))).To(Equal(expected))
			Expect(provider.Same([]byte(b), []byte(a))).To(Equal(expected))
		},
		Entry("equal bytes, even if invalid", `{"a":`, `{"a":`, true),
		Entry("format and order", `{"a":1,"b":[true,null]}`, ` { "b": [true, null], "a": 1 } `, true),
		Entry("numbers written differently", `[1,100,0]`, `[1.0,1e2,-0]`, true),
		Entry("large numbers that are equal as floats", `[9007199254740993]`, `[9007199254740992]`, false),
		Entry("fractions", `[0.5]`, `[0.50]`, true),
		Entry("another value", `{"a":1}`, `{"a":2}`, false),
		Entry("another type", `{"a":1}`, `{"a":"1"}`, false),
		Entry("null and an absent field", `{"a":null}`, `{}`, false),
		Entry("another order of a list", `[1,2]`, `[2,1]`, false),
		Entry("not JSON", `{"a":1}`, `a: 1`, false),
		Entry("more than one document", `{"a":1}`, `{"a":1}{}`, false),
		Entry("a duplicate field whose last value is the same", `{"a":1}`, `{"a":2,"a":1}`, false),
		Entry("a duplicate field in another case", `{"a":1}`, `{"a":1,"A":1}`, false),
		Entry("a nested duplicate field", `{"a":[{"b":{"c":1}}]}`, `{"a":[{"b":{"c":0},"b":{"c":1}}]}`, false),
		Entry("the same duplicate field in both", `{"a":2,"a":1}`, `{"a":2, "a":1}`, false),
		Entry("a number that must not be parsed", `{"a":1e999999999}`, `{"a": 1e999999999}`, false),
	)
})

var _ = Describe("Decoder", func() {
	var decoder *provider.Decoder

	BeforeEach(func() {
		scheme := runtime.NewScheme()
		group := schema.GroupVersion{Group: "test", Version: "v1"}
		scheme.AddKnownTypes(group, &metav1.Status{})
		scheme.AddKnownTypes(schema.GroupVersion{Group: "test", Version: runtime.APIVersionInternal}, &metav1.Status{})
		decoder = provider.NewDecoder(scheme, group, map[string]provider.TextCheck{"details.causes.field": provider.CheckQuantity})
	})

	// decode checks that strict and lenient decoding return the same error, and returns it.
	decode := func(document string) error {
		GinkgoHelper()
		raw := &runtime.RawExtension{Raw: []byte(document)}
		strict, lenient := decoder.DecodeStrict(raw, &metav1.Status{}), decoder.Decode(raw, &metav1.Status{})
		Expect(fmt.Sprint(strict)).To(Equal(fmt.Sprint(lenient)))
		Expect(len(fmt.Sprint(strict))).To(BeNumerically("<", 4096))
		return strict
	}
	document := func(fields string) string { return `{"apiVersion":"test/v1","kind":"Status",` + fields + `}` }
	causes := func(causes ...string) string {
		return document(`"details":{"causes":[` + strings.Join(causes, ",") + `]}`)
	}

	It("decodes harmless documents", func() {
		Expect(decode(document(`"code":404`))).To(Succeed())
		Expect(decode(causes(`{"field":"10Gi"}`, `{"field":" 1e3 "}`, `{"field":"-1.5E-2"}`, `{"field":"1E"}`, `{"field":"1Ei"}`))).To(Succeed())
	})

	DescribeTable("refuses numbers by their text",
		func(number string) {
			expected := MatchError(And(HavePrefix("details.causes[1].field: Invalid value: "), ContainSubstring("10")))
			Expect(decode(causes(`{}`, `{"field":`+number+`}`))).To(expected)
			if number[0] == '"' {
				return
			}
			Expect(decode(causes(`{}`, `{"field":"`+number+`"}`))).To(expected)
		},
		Entry("exponent", `1e999999999`),
		Entry("negative exponent", `1e-9000000`),
		Entry("three digits", `1E100`),
		Entry("sign", `-1.5e+100`),
		Entry("many digits", strings.Repeat("9", 65)),
		Entry("many fractional digits", "0."+strings.Repeat("9", 65)),
		Entry("invalid quantity", `"large"`),
		Entry("empty text", `""`),
	)

	It("accepts exponents with leading zeros", func() {
		Expect(decode(causes(`{"field":"1e0000003"}`))).To(Succeed())
	})

	It("refuses a number in an unknown field", func() {
		raw := &runtime.RawExtension{Raw: []byte(document(`"x":{"y":[1e999999999]}`))}
		Expect(decoder.Decode(raw, &metav1.Status{})).To(MatchError(HavePrefix("x.y[0]: Invalid value: ")))
	})

	It("checks every occurrence of a duplicate field", func() {
		Expect(decode(causes(`{"field":"1e999999999","field":"1Gi"}`))).To(MatchError(HavePrefix("details.causes[0].field: ")))
	})

	It("reports all fields at once, up to a limit", func() {
		Expect(decode(causes(`{"field":"x"}`, `{"field":"1Gi"}`, `{"field":"y"}`))).To(MatchError(And(
			ContainSubstring(`details.causes[0].field: Invalid value: "x"`), ContainSubstring(`details.causes[2].field: Invalid value: "y"`))))
		many := decode(causes(slices.Repeat([]string{`{"field":"x"}`}, provider.MaxItems)...))
		Expect(strings.Count(many.Error(), "Invalid value")).To(Equal(20))
	})

	DescribeTable("bounds",
		func(document, expected string) { Expect(decode(document)).To(MatchError(ContainSubstring(expected))) },
		Entry("size", document(`"message":"`+strings.Repeat("x", provider.MaxBytes)+`"`), "at most 262144 bytes"),
		Entry("lists", causes(slices.Repeat([]string{`{}`}, provider.MaxItems+1)...), "details.causes: Invalid value: the list has more than 250 items"),
		Entry("values", `[`+strings.Join(slices.Repeat([]string{`[` + strings.Repeat(`0,`, 99) + `0]`}, 100), ",")+`]`, "more than 10000 values"),
		Entry("nesting of lists", strings.Repeat(`[`, 100_000)+strings.Repeat(`]`, 100_000), "16 levels"),
		Entry("nesting of objects", strings.Repeat(`{"a":`, 40_000)+`0`+strings.Repeat(`}`, 40_000), "16 levels"),
		Entry("names", `{"`+strings.Repeat("x", 129)+`":0}`, "128 characters"),
		Entry("an error that quotes the document", `{"message":"`+strings.Repeat("x", 10_000)+`"}`, "Kind"),
		Entry("an error that quotes the version", `{"apiVersion":"test/`+strings.Repeat("x", 10_000)+`","kind":"Status"}`, "xxx"),
	)

	DescribeTable("accepts only JSON",
		func(document string) { Expect(decode(document)).To(MatchError("is not valid JSON")) },
		Entry("YAML", "apiVersion: test/v1\nkind: Status\n"),
		Entry("protobuf", "k8s\x00\n"),
		Entry("two documents", document(`"code":1`)+`{}`),
		Entry("a truncated document", document(`"code":1`)[:10]),
		Entry("a comment", "{} # {}"),
	)
})
