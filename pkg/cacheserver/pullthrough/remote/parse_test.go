// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"net/url"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

var _ = DescribeTable("A realm is allowed", func(base, realm string, named []string, expected bool) {
	baseURL, err := url.Parse(base)
	Expect(err).NotTo(HaveOccurred())
	realmURL, err := url.Parse(realm)
	Expect(err).NotTo(HaveOccurred())
	Expect((&guard{base: baseURL, realms: named}).realmAllowed(realmURL)).To(Equal(expected))
},
	Entry("on the upstream", "https://ghcr.io", "https://ghcr.io/token", nil, true),
	Entry("on the same domain", "https://registry-1.docker.io", "https://auth.docker.io/token", nil, true),
	Entry("not on another domain", "https://registry-1.docker.io", "https://auth.example.com/token", nil, false),
	Entry("on another domain that is configured", "https://registry-1.docker.io", "https://auth.example.com/token", []string{"auth.example.com"}, true),
	Entry("with its port", "https://a.example.com", "https://b.example.org:8443/token", []string{"b.example.org:8443"}, true),
	Entry("not with another port", "https://a.example.com", "https://b.example.org:8443/token", []string{"b.example.org:443"}, false),
	Entry("not on a public suffix that both share", "https://a.github.io", "https://b.github.io/token", nil, false),
	Entry("on an address that is the upstream", "http://10.0.0.1:5000", "http://10.0.0.1:5000/token", nil, true),
	Entry("not on another port of an address", "http://10.0.0.1:5000", "http://10.0.0.1:5001/token", nil, false),
	Entry("not on localhost", "http://localhost:5000", "http://localhost:5001/token", nil, false),
	Entry("not on a lookalike", "https://docker.io", "https://docker.io.example.com/token", nil, false),
)

var _ = DescribeTable("Retry-After", func(header string, expected time.Duration) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	Expect(parseRetryAfter(header, now)).To(Equal(expected))
},
	Entry("seconds", "30", 30*time.Second),
	Entry("a date", "Tue, 01 Jan 2030 00:00:10 GMT", 10*time.Second),
	Entry("a date in the past", "Tue, 01 Jan 2020 00:00:10 GMT", time.Second),
	Entry("nothing", "", defaultRetryAfter),
	Entry("zero", "0", time.Second),
	Entry("too long", "99999999999999", maxRetryAfter),
	Entry("a negative number", "-99999999999999", time.Second),
	Entry("garbage", "soon", defaultRetryAfter),
)

var _ = DescribeTable("The next page", func(header, expected string) {
	Expect(parseNext([]string{header}).Encode()).To(Equal(expected))
},
	Entry("relative", `</v2/app/tags/list?n=2&last=b>; rel="next"`, "last=b&n=2"),
	Entry("absolute, with another host", `<https://example.com/v2/app/tags/list?token=x%3D>; rel=next`, "token=x%3D"),
	Entry("with other parameters", `</list?last=b>; title="more"; REL = "next"; type="x"`, "last=b"),
	Entry("after another one", `</list?last=a>; rel="prev"; title="a, b", </list?last=b>; rel="next"`, "last=b"),
	Entry("before another one", `</list?last=b>; rel="next", </list?last=a>; rel="prev"`, "last=b"),
	Entry("nothing", "", ""),
	Entry("another relation", `</list?last=b>; rel="prev"`, ""),
	Entry("no relation", `</list?last=b>`, ""),
	Entry("the same page", `</list>; rel="next"`, ""),
	Entry("garbage", `</list?last=b; rel="next"`, ""),
	Entry("too long", `</list?last=`+strings.Repeat("b", maxLink)+`>; rel="next"`, ""),
)

func FuzzParseRetryAfter(f *testing.F) {
	f.Add("120")
	f.Add("Tue, 01 Jan 2030 00:00:10 GMT")
	f.Fuzz(func(t *testing.T, header string) {
		if d := parseRetryAfter(header, time.Unix(0, 0)); d < time.Second || d > maxRetryAfter {
			t.Errorf("%q is %s", header, d)
		}
	})
}

func FuzzParseContentRange(f *testing.F) {
	f.Add("bytes 1-2/3")
	f.Add("bytes 0-9223372036854775807/*")
	f.Fuzz(func(t *testing.T, header string) {
		r, err := parseContentRange(header)
		if err == nil && (r.first < 0 || r.last < r.first || r.size >= 0 && r.last >= r.size) {
			t.Errorf("%q is %+v", header, r)
		}
	})
}

func FuzzParseHeaders(f *testing.F) {
	f.Add("application/json; charset=utf-8", `"etag"`, "100;w=21600", `</list?last=b>; rel="next"`)
	f.Fuzz(func(t *testing.T, mediaType, etag, limit, link string) {
		if next := parseNext([]string{link}); next != nil && (len(next) == 0 || len(link) > maxLink) {
			t.Errorf("next %q", next)
		}
		if parsed := parseMediaType(mediaType); strings.ContainsAny(parsed, "\r\n;") || len(parsed) > maxMediaType {
			t.Errorf("media type %q", parsed)
		}
		if parsed := parseETag(etag); parsed != "" && parsed[0] != '"' {
			t.Errorf("etag %q", parsed)
		}
		if n, ok := parseLimit(limit); ok && n < 0 {
			t.Errorf("limit %d", n)
		}
	})
}

func FuzzParseErrorCode(f *testing.F) {
	f.Add([]byte(`{"errors":[{"code":"DENIED","message":"no"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if code := parseErrorCode(body); len(code) > 40 || strings.ContainsFunc(code, func(r rune) bool { return r < '0' || r > '_' }) {
			t.Errorf("code %q", code)
		}
	})
}
