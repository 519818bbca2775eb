// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/credentials"
)

var _ = DescribeTable("Challenges are parsed", func(expected []challenge, headers ...string) {
	Expect(parseChallenges(headers)).To(Equal(expected))
},
	Entry("one", []challenge{{scheme: "bearer", realm: "https://a/token", service: "s", scope: "repository:a:pull"}},
		`Bearer realm="https://a/token",service="s",scope="repository:a:pull"`),
	Entry("in any case, with blanks", []challenge{{scheme: "bearer", realm: "r", service: "s"}}, `bearer  Realm = "r" , SERVICE="s"`),
	Entry("without quotes", []challenge{{scheme: "bearer", realm: "https://a/token?x=1", service: "s"}}, `Bearer realm=https://a/token?x=1,service=s`),
	Entry("without commas", []challenge{{scheme: "bearer", realm: "r", service: "s"}}, `Bearer realm="r" service="s"`),
	Entry("with escapes", []challenge{{scheme: "basic", realm: `a "b" \`}}, `Basic realm="a \"b\" \\"`),
	Entry("with a missing closing quote", []challenge{{scheme: "bearer", realm: "r"}}, `Bearer realm="r`),
	Entry("with a comma in a value", []challenge{{scheme: "bearer", scope: "repository:a:pull,push"}, {scheme: "basic", realm: "b"}},
		`Bearer scope="repository:a:pull,push", Basic realm="b"`),
	Entry("several in one header", []challenge{{scheme: "negotiate"}, {scheme: "basic", realm: "b"}, {scheme: "bearer", realm: "r"}},
		`Negotiate, Basic realm="b", Bearer realm="r",error="x"`),
	Entry("several headers", []challenge{{scheme: "negotiate"}, {scheme: "basic", realm: "b"}}, `Negotiate`, `Basic realm="b"`),
	Entry("after a token68", []challenge{{scheme: "negotiate"}, {scheme: "basic", realm: "b"}}, `Negotiate YII==, Basic realm="b"`),
	Entry("after a truncated header", []challenge{{scheme: "digest", realm: "r"}, {scheme: "basic", realm: "b"}}, `Digest realm="r`, `Basic realm="b"`),
	Entry("nothing", nil, "", ` , "x" =`),
	Entry("none in a header that is too long", nil, `Bearer realm="`+strings.Repeat("r", maxChallengeHeader)+`"`),
)

var _ = DescribeTable("Scopes", func(hinted, repository string, expected ...string) {
	Expect(scopes(challenge{scope: hinted}, repository)).To(HaveExactElements(expected))
},
	Entry("as hinted", "repository:a:pull", "a", "repository:a:pull"),
	Entry("as needed", "", "a", "repository:a:pull"),
	Entry("as one of the same resource", "repository:a:metadata_read,pull", "a", "repository:a:pull,metadata_read"),
	Entry("with other resources", "registry:catalog:* repository:b:pull", "a", "repository:a:pull", "registry:catalog:*", "repository:b:pull"),
	Entry("with a port in a name", "repository:host:5000/a:pull", "", "repository:host:5000/a:pull"),
	Entry("none", "", ""),
)

var _ = DescribeTable("A token", func(content, value string, lifetime time.Duration) {
	v, l, ok := parseToken([]byte(content))
	Expect(ok).To(Equal(value != ""))
	Expect(v).To(Equal(value))
	Expect(l).To(Equal(lifetime))
},
	Entry("in the field of registries", `{"token":"t","expires_in":300}`, "t", 5*time.Minute),
	Entry("in the field of OAuth 2", `{"access_token":"t"}`, "t", time.Duration(0)),
	Entry("with a lifetime in quotes", `{"token":"t","expires_in":"90"}`, "t", 90*time.Second),
	Entry("with a fraction of a second", `{"token":"t","expires_in":0.5}`, "t", time.Second/2),
	Entry("with an invalid lifetime", `{"token":"t","expires_in":{"a":1}}`, "t", time.Duration(0)),
	Entry("with a negative lifetime", `{"token":"t","expires_in":-1}`, "t", time.Duration(0)),
	Entry("with an endless lifetime", `{"token":"t","expires_in":1e300}`, "t", maxLifetime),
	Entry("that breaks a header", `{"token":"t\r\nHost: x"}`, "", time.Duration(0)),
	Entry("that is a web page", `<html>`, "", time.Duration(0)),
	Entry("that is missing", `{}`, "", time.Duration(0)),
	Entry("that is too long", `{"token":"`+strings.Repeat("t", maxToken+1)+`"}`, "", time.Duration(0)),
)

var _ = DescribeTable("An address", func(address string, expected bool) {
	Expect(forbidden(netip.MustParseAddr(address))).To(Equal(expected))
	dialled := checkDial("tcp", netip.AddrPortFrom(netip.MustParseAddr(address), 443).String(), nil)
	Expect(dialled != nil).To(Equal(expected))
},
	Entry("of the internet", "192.0.2.1", false),
	Entry("of a private network", "10.0.0.1", false),
	Entry("of a private network, IPv6", "fd00::1", false),
	Entry("of the loopback interface", "127.0.0.1", false),
	Entry("of the loopback interface, IPv6", "::1", false),
	Entry("of a carrier-grade NAT", "100.64.0.1", false),
	Entry("of clouds' metadata", "169.254.169.254", true),
	Entry("of clouds' metadata as IPv6", "::ffff:169.254.169.254", true),
	Entry("of clouds' metadata through NAT64", "64:ff9b::a9fe:a9fe", true),
	Entry("of AWS's metadata, IPv6", "fd00:ec2::254", true),
	Entry("of Google's metadata, IPv6", "fd20:ce::254", true),
	Entry("of Alibaba's metadata", "100.100.100.200", true),
	Entry("of Azure's metadata", "168.63.129.16", true),
	Entry("link-local, IPv6", "fe80::1", true),
	Entry("link-local, IPv6, with a zone", "fe80::1%eth0", true),
	Entry("unspecified", "0.0.0.0", true),
	Entry("unspecified, IPv6", "::", true),
	Entry("multicast", "224.0.0.1", true),
	Entry("multicast, IPv6", "ff02::1", true),
	Entry("broadcast", "255.255.255.255", true),
)

func FuzzChallenge(f *testing.F) {
	f.Add(`Bearer realm="https://auth.example.com/token",service="s"`, `Basic realm="x"`)
	f.Add(`Bearer service="s", realm="http://[::1]:5000/"`, ``)
	f.Add(`Negotiate YII==, bearer realm=//other/ service="a b"`, `Bearer realm="/token"`)
	base := &url.URL{Scheme: "https", Host: "registry.example.com"}
	client := &Client{base: base, guard: &guard{base: base}, now: time.Now}
	secret := credentials.Credential{Username: "robot", Password: "an-obvious-test-password"}
	places := map[bool]*place{true: {auth: newAuthenticator(client, secret), own: true, credential: secret}, false: {auth: newAuthenticator(client, secret)}}
	f.Fuzz(func(t *testing.T, first, second string) {
		parsed := parseChallenges([]string{first, second})
		if len(parsed) > maxChallenges {
			t.Errorf("%d challenges", len(parsed))
		}
		for _, c := range parsed {
			if asked := scopes(c, "app"); len(asked) == 0 || len(asked) > maxScopes {
				t.Errorf("%d scopes", len(asked))
			}
		}
		resp := &http.Response{Header: http.Header{"Www-Authenticate": {first, second}}, Body: http.NoBody}
		req := &http.Request{URL: base}
		for own, p := range places {
			c, _ := p.choose(req, resp)
			switch {
			case c == nil:
			case c.scheme == schemeBasic && !own:
				t.Error("another host gets the credential")
			case c.scheme == schemeBearer && (c.endpoint.Scheme != "https" || c.endpoint.Host == "" || c.endpoint.User != nil):
				t.Errorf("allowed %q", c.endpoint)
			case c.scheme == schemeBearer && own && !client.guard.realmAllowed(c.endpoint):
				t.Errorf("allowed %q to see the credential", c.endpoint)
			}
		}
	})
}

func FuzzToken(f *testing.F) {
	f.Add([]byte(`{"token":"t","access_token":"t","expires_in":300,"issued_at":"2030-01-01T00:00:00Z"}`))
	f.Add([]byte(`{"access_token":"t","expires_in":"1e9"}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		value, lifetime, ok := parseToken(content)
		if !ok {
			return
		}
		if value == "" || len(value) > maxToken || strings.ContainsAny(value, "\r\n \x00") {
			t.Errorf("token %q", value)
		}
		if lifetime < 0 || lifetime > maxLifetime {
			t.Errorf("lifetime %s", lifetime)
		}
	})
}

func FuzzDecoded(f *testing.F) {
	f.Add("gzip", []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"))
	f.Add("deflate, gzip", []byte("x\x9c"))
	f.Fuzz(func(t *testing.T, coding string, body []byte) {
		resp := &http.Response{Header: http.Header{"Content-Encoding": {coding}}}
		if content := decoded(resp, body, 1<<10); len(content) > max(1<<10, len(body)) {
			t.Errorf("%d bytes", len(content))
		}
	})
}
