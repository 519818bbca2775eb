// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstream_test

import (
	"net/url"
	"strings"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/upstream"
)

var _ = Describe("Parse", func() {
	DescribeTable("accepts", func(text string, expected upstream.Upstream, expectedURL string) {
		parsed, remoteURL, err := upstream.Parse(text)
		Expect(err).NotTo(HaveOccurred())
		Expect(parsed).To(Equal(expected))
		Expect(remoteURL).To(Equal(expectedURL))
		Expect(parsed.IsDockerHub()).To(Equal(expected == "docker.io"))
	},
		Entry("Docker Hub by its host in image references", "docker.io", upstream.Upstream("docker.io"), "https://registry-1.docker.io"),
		Entry("Docker Hub by the host of its API", "registry-1.docker.io", upstream.Upstream("docker.io"), "https://registry-1.docker.io"),
		Entry("Docker Hub by a URL", "https://Registry-1.docker.io:443/", upstream.Upstream("docker.io"), "https://registry-1.docker.io"),
		Entry("Docker Hub by the host of docker login", "https://index.docker.io", upstream.Upstream("docker.io"), "https://registry-1.docker.io"),
		Entry("Docker Hub by its web site", "hub.docker.com", upstream.Upstream("docker.io"), "https://registry-1.docker.io"),
		Entry("a host", "ghcr.io", upstream.Upstream("ghcr.io"), "https://ghcr.io"),
		Entry("a host in capitals", "GHCR.io", upstream.Upstream("ghcr.io"), "https://ghcr.io"),
		Entry("a host and a port", "registry.example.com:5000", upstream.Upstream("registry.example.com:5000"), "https://registry.example.com:5000"),
		Entry("a short host and a port", "registry:5000", upstream.Upstream("registry:5000"), "https://registry:5000"),
		Entry("a URL", "https://ghcr.io", upstream.Upstream("ghcr.io"), "https://ghcr.io"),
		Entry("a URL with a slash", "https://ghcr.io/", upstream.Upstream("ghcr.io"), "https://ghcr.io"),
		Entry("plain HTTP", "HTTP://localhost:5001", upstream.Upstream("localhost:5001"), "http://localhost:5001"),
		Entry("localhost", "localhost", upstream.Upstream("localhost"), "https://localhost"),
		Entry("an IPv4 address", "http://127.0.0.1:5001", upstream.Upstream("127.0.0.1:5001"), "http://127.0.0.1:5001"),
		Entry("an IPv6 address", "[::1]", upstream.Upstream("[::1]"), "https://[::1]"),
		Entry("an IPv6 address and a port", "http://[::1]:5001", upstream.Upstream("[::1]:5001"), "http://[::1]:5001"),
	)

	DescribeTable("refuses", func(text, message string) {
		_, _, err := upstream.Parse(text)
		Expect(err).To(MatchError(ContainSubstring(message)))
		Expect(err.Error()).NotTo(ContainSubstring("s3cret"))
	},
		Entry("empty text", "", "must be the host of a registry"),
		Entry("a scheme alone", "https://", "must be the host of a registry"),
		Entry("another scheme", "oci://ghcr.io", "must begin with https:// or http://"),
		Entry("a scheme without slashes", "https:ghcr.io", "must be the host of a registry"),
		Entry("plain HTTP to Docker Hub", "http://docker.io", "use docker.io"),
		Entry("a user and a password", "https://john:s3cret@ghcr.io", "remove the user, password"),
		Entry("a password with a slash", "https://john:1234/x@ghcr.io", "remove the user, password"),
		Entry("a password with a slash without a scheme", "s3cret/x@ghcr.io", "remove the user, password"),
		Entry("a user and a password without a scheme", "john:s3cret@ghcr.io", "remove the user, password"),
		Entry("a password instead of a scheme", "s3cret://ghcr.io", "must begin with"),
		Entry("a path", "ghcr.io/s3cret", "use ghcr.io"),
		Entry("the path of the API", "https://registry-1.docker.io/v2/", "use registry-1.docker.io"),
		Entry("an image", "alpine", `clients interpret "alpine" as a repository of Docker Hub`),
		Entry("an image with a tag", "alpine:latest", "must be the host of a registry"),
		Entry("an image in a namespace", "library/alpine", `clients interpret "library" as a repository of Docker Hub`),
		Entry("a query", "ghcr.io?s3cret", "must be the host of a registry"),
		Entry("a fragment", "ghcr.io#s3cret", "must be the host of a registry"),
		Entry("a space", "ghcr .io", "must be the host of a registry"),
		Entry("a line break", "ghcr.io\n", "must be the host of a registry"),
		Entry("a wildcard", "*.ghcr.io", "must be the host of a registry"),
		Entry("an underscore", "gh_cr.io", "must be the host of a registry"),
		Entry("an IPv6 address without brackets", "::1", "must be the host of a registry"),
		Entry("an empty port", "ghcr.io:", "must be the host of a registry"),
		Entry("port 0", "ghcr.io:0", "a number from 1 to 65535"),
		Entry("a port with leading zeros", "ghcr.io:0443", "without leading zeros"),
		Entry("a port that is too high", "[::1]:65536", "a number from 1 to 65535"),
	)
})

// FuzzParse checks that the URL of an accepted registry leads to its host.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"docker.io", "https://ghcr.io/", "http://[::1]:5000", "john:s3cret@ghcr.io", "ghcr.io/org", "oci://x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, remoteURL, err := upstream.Parse(text)
		if err != nil {
			return
		}
		parsed, err := url.Parse(remoteURL)
		if err != nil || parsed.Scheme+"://"+parsed.Host != remoteURL || !u.IsDockerHub() && parsed.Host != string(u) {
			t.Errorf("%q became %q at %q", text, u, remoteURL)
		}
		again, _, err := upstream.Parse(string(u))
		if err != nil || again != u || strings.ToLower(string(u)) != string(u) {
			t.Errorf("%q became %q, which became %q: %v", text, u, again, err)
		}
	})
}
