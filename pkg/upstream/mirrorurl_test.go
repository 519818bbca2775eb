// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstream_test

import (
	"errors"
	"path"
	"strings"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/upstream"
)

var _ = Describe("ParseMirrorURL", func() {
	DescribeTable("accepts", func(text, expectedPath, canonical, key string) {
		parsed, err := upstream.ParseMirrorURL(text)
		Expect(err).NotTo(HaveOccurred())
		Expect(parsed.Path).To(Equal(expectedPath))
		Expect(parsed.String()).To(Equal(canonical))
		Expect(parsed.Key()).To(Equal(key))
	},
		Entry("a host", "https://mirror.gcr.io", "", "https://mirror.gcr.io", "https://mirror.gcr.io:443"),
		Entry("a trailing slash", "https://mirror.gcr.io/", "", "https://mirror.gcr.io", "https://mirror.gcr.io:443"),
		Entry("a port", "http://mirror:5000", "", "http://mirror:5000", "http://mirror:5000"),
		Entry("a path", "http://harbor.example.com/v2/docker-hub", "/v2/docker-hub", "http://harbor.example.com/v2/docker-hub", "http://harbor.example.com:80/v2/docker-hub"),
		Entry("a path with a trailing slash", "https://a:443/b/c/", "/b/c", "https://a:443/b/c", "https://a:443/b/c"),
		Entry("all characters of a path", "https://a/A.z/..._~+:-/0", "/A.z/..._~+:-/0", "https://a/A.z/..._~+:-/0", "https://a:443/A.z/..._~+:-/0"),
		Entry("an IPv6 address", "https://[2001:DB8:0::1]/b", "/b", "https://[2001:db8:0::1]/b", "https://[2001:db8::1]:443/b"),
		Entry("capitals", "HTTPS://A/B", "/B", "https://a/B", "https://a:443/B"),
	)

	DescribeTable("refuses", func(text string, messages ...string) {
		_, err := upstream.ParseMirrorURL(text)
		Expect(err).To(HaveOccurred())
		for _, message := range messages {
			Expect(err).To(MatchError(ContainSubstring(message)))
		}
		Expect(errors.Is(err, upstream.ErrUserInfo)).To(Equal(strings.Contains(text, "john")))
		Expect(err.Error()).NotTo(Or(ContainSubstring("s3cret"), ContainSubstring("\n")))
	},
		Entry("an empty text", "", "must begin with https:// or http://"),
		Entry("a host without a scheme", "ghcr.io/a", "must begin with https:// or http://"),
		Entry("another scheme", "ftp://ghcr.io/a", "must begin with https:// or http://"),
		Entry("a password", "https://john:s3cret@ghcr.io/a", "must not contain a user name or password"),
		Entry("a password with a slash", "https://john:s3/cret@ghcr.io/a", "must not contain a user name or password"),
		Entry("two slashes", "https://ghcr.io//", "between single slashes"),
		Entry("two slashes in a path", "https://ghcr.io/a//b", "between single slashes"),
		Entry("two slashes at the end", "https://ghcr.io/a//", "between single slashes"),
		Entry("a dot", "https://ghcr.io/./a", `path segments "." and ".."`),
		Entry("two dots", "https://ghcr.io/a/../b", `path segments "." and ".."`),
		Entry("two dots at the end", "https://ghcr.io/a/..", `path segments "." and ".."`),
		Entry("encoded dots", "https://ghcr.io/%2e%2E/b", "letters, digits"),
		Entry("an encoded slash", "https://ghcr.io/a%2Fb", "letters, digits"),
		Entry("a quote", `https://ghcr.io/a"b`, "letters, digits"),
		Entry("a backslash", `https://ghcr.io/..\b`, "letters, digits"),
		Entry("a line break", "https://ghcr.io/a\nb", "letters, digits"),
		Entry("a letter beyond ASCII", "https://ghcr.io/а", "letters, digits"),
		Entry("a query", "https://ghcr.io?s3cret", "must not have a query"),
		Entry("a query with a slash", "https://ghcr.io?a/b", "must not have a query"),
		Entry("an empty query", "https://ghcr.io/a?", "must not have a query"),
		Entry("a fragment", "https://ghcr.io/a#s3cret", "must not have a fragment"),
		Entry("an empty fragment after a slash", "https://ghcr.io/#", "must not have a fragment"),
		Entry("no host", "https:///a", "must name a host"),
		Entry("an invalid port", "https://ghcr.io:0/a", "from 1 to 65535"),
		Entry("everything at once", "https://:0/../b c", "must name a host", "from 1 to 65535", "path segments", "letters, digits"),
	)
})

// FuzzParseMirrorURL checks that the canonical form of an accepted URL is stable, and that its path stays where it is.
func FuzzParseMirrorURL(f *testing.F) {
	for _, seed := range []string{"https://a/b/", "HTTP://[::1]:5000/v2", "https://john:s3/cret@a", "https://a/%2e%2e", "https://a//", "http://[fe80::1%25eth0]:1/x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := upstream.ParseMirrorURL(text)
		if err != nil {
			return
		}
		again, err := upstream.ParseMirrorURL(u.String())
		if err != nil || again != u {
			t.Errorf("%q became %q, which became %q: %v", text, u, again, err)
		}
		if u.Path != "" && path.Clean(u.Path) != u.Path {
			t.Errorf("%q has the path %q", text, u.Path)
		}
	})
}
