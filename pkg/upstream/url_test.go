// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstream_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/upstream"
)

var _ = Describe("ParseURL", func() {
	DescribeTable("accepts", func(text string, expected upstream.URL, host, canonical string) {
		parsed, err := upstream.ParseURL(text)
		Expect(err).NotTo(HaveOccurred())
		Expect(parsed).To(Equal(expected))
		Expect(parsed.Host()).To(Equal(host))
		Expect(parsed.String()).To(Equal(canonical))
	},
		Entry("a host", "https://ghcr.io", upstream.URL{Scheme: "https", Hostname: "ghcr.io"}, "ghcr.io", "https://ghcr.io"),
		Entry("a trailing slash", "https://ghcr.io/", upstream.URL{Scheme: "https", Hostname: "ghcr.io"}, "ghcr.io", "https://ghcr.io"),
		Entry("a port", "http://registry:5000", upstream.URL{Scheme: "http", Hostname: "registry", Port: "5000"}, "registry:5000", "http://registry:5000"),
		Entry("capitals", "HTTPS://GHCR.io", upstream.URL{Scheme: "https", Hostname: "ghcr.io"}, "ghcr.io", "https://ghcr.io"),
		Entry("an underscore", "http://my_registry:5000", upstream.URL{Scheme: "http", Hostname: "my_registry", Port: "5000"}, "my_registry:5000", "http://my_registry:5000"),
		Entry("a trailing dot", "https://ghcr.io.", upstream.URL{Scheme: "https", Hostname: "ghcr.io."}, "ghcr.io.", "https://ghcr.io."),
		Entry("an IPv4 address", "http://127.0.0.1:5001", upstream.URL{Scheme: "http", Hostname: "127.0.0.1", Port: "5001"}, "127.0.0.1:5001", "http://127.0.0.1:5001"),
		Entry("an IPv6 address", "http://[2001:DB8::1]", upstream.URL{Scheme: "http", Hostname: "2001:db8::1"}, "[2001:db8::1]", "http://[2001:db8::1]"),
		Entry("an IPv6 address with a port", "http://[::1]:5001", upstream.URL{Scheme: "http", Hostname: "::1", Port: "5001"}, "[::1]:5001", "http://[::1]:5001"),
	)

	DescribeTable("refuses", func(text string, messages ...string) {
		_, err := upstream.ParseURL(text)
		Expect(err).To(HaveOccurred())
		for _, message := range messages {
			Expect(err).To(MatchError(ContainSubstring(message)))
		}
		Expect(errors.Is(err, upstream.ErrUserInfo)).To(Equal(strings.Contains(text, "@") && !strings.Contains(text, " ")))
		Expect(err.Error()).NotTo(Or(ContainSubstring("s3cret"), ContainSubstring("\n")))
	},
		Entry("an empty text", "", "must begin with https:// or http://"),
		Entry("a host without a scheme", "ghcr.io", "must begin with https:// or http://"),
		Entry("another scheme", "ftp://ghcr.io", "must begin with https:// or http://"),
		Entry("a space", "https://john:s3cret@exa mple.com", "must be a URL such as"),
		Entry("a user", "https://john@ghcr.io", "must not contain a user name or password"),
		Entry("an empty user", "https://@ghcr.io", "must not contain a user name or password"),
		Entry("a password", "https://john:s3cret@ghcr.io/", "must not contain a user name or password"),
		Entry("a path", "https://ghcr.io/s3cret", "must not have a path"),
		Entry("two slashes", "https://ghcr.io//", "must not have a path"),
		Entry("a query", "https://ghcr.io?s3cret", "must not have a query"),
		Entry("an empty query", "https://ghcr.io?", "must not have a query"),
		Entry("a fragment", "https://ghcr.io#s3cret", "must not have a fragment"),
		Entry("an empty fragment", "https://ghcr.io#", "must not have a fragment"),
		Entry("no host", "https://", "must name a host"),
		Entry("only a port", "https://:5000", "must name a host"),
		Entry("no slashes", "https:ghcr.io", "must name a host"),
		Entry("a quote", `https://ghcr".io`, "must name a host"),
		Entry("a letter beyond ASCII", "https://ghcr%C3%A4.io", "must name a host"),
		Entry("an invalid IPv6 address", "https://[1::2::3]", "must be a URL such as"),
		Entry("an empty port", "https://ghcr.io:", "from 1 to 65535"),
		Entry("port 0", "https://ghcr.io:0", "from 1 to 65535"),
		Entry("a port that is too high", "https://ghcr.io:65536", "from 1 to 65535"),
		Entry("a port with leading zeros", "https://ghcr.io:0443", "without leading zeros"),
		Entry("everything at once", "https://john:s3cret@:0/s3cret?s3cret#s3cret",
			"user name or password; ", "path, only a slash at the end; ", "query", "fragment", "must name a host", "from 1 to 65535"),
	)
})

// FuzzParseURL checks that an accepted URL has nothing but a scheme, a host and a port, and that its canonical form is
// stable.
func FuzzParseURL(f *testing.F) {
	for _, seed := range []string{"https://ghcr.io/", "HTTP://[::1]:5000", "https://john:s3cret@ghcr.io", "https://ghcr.io?", "http://[fe80::1%25eth0]:1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := upstream.ParseURL(text)
		if err != nil {
			return
		}
		again, err := upstream.ParseURL(u.String())
		if err != nil || again != u {
			t.Errorf("%q became %q, which became %q: %v", text, u, again, err)
		}
		parsed, err := url.Parse(u.String())
		if err != nil || *parsed != (url.URL{Scheme: u.Scheme, Host: u.Host()}) {
			t.Errorf("%q became %q: %v", text, u, err)
		}
	})
}
