// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/sirupsen/logrus/hooks/test"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/response"
	"github.com/larder-project/larder/test/pki"
)

func TestClientThatLeaves(t *testing.T) {
	inBubble(t, func(a *asker) {
		a.takes = time.Minute
		var results []string
		a.gate.Observe = func(result string) { results = append(results, result) }
		var recorded []event.Event
		log, _ := test.NewNullLogger()
		server := &http.Server{Handler: a.handler}
		response.Wrap(server, time.Minute, nil, log, func(e event.Event) { recorded = append(recorded, e) })
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, tag, nil)
		r.SetBasicAuth("alice", "good")
		w := httptest.NewRecorder()
		server.Handler.ServeHTTP(w, r)
		a.Expect(w).To(HaveHTTPStatus(http.StatusServiceUnavailable), "it may have closed only its side of the connection")
		a.Expect(results).To(ConsistOf("unavailable"))
		a.Expect(recorded).To(HaveLen(1))
		a.Expect(recorded[0].Outcome).To(Equal(event.Canceled))
		a.Expect(recorded[0].Cause).To(Equal(event.CauseClientLeft))
	})
}

func TestDenials(t *testing.T) {
	for name, c := range map[string]struct {
		mode           Mode
		user, expected string
	}{
		"says when a refused credential is tried again": {PullSecrets, "alice", "asks again within 10 minutes"},
		"names the prefix that accounts reserve":        {PullSecrets, "larder.robot", `begin with \"larder.\"`},
		"says that no credential helps beside nodes":    {Nodes, "alice", "nodes and its accounts only"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(a *asker) {
				a.gate.Mode = c.mode
				r := httptest.NewRequest(http.MethodGet, tag, nil)
				r.SetBasicAuth(c.user, "bad")
				w := httptest.NewRecorder()
				a.handler.ServeHTTP(w, r)
				a.Expect(w).To(HaveHTTPStatus(http.StatusForbidden))
				a.Expect(w.Body.String()).To(ContainSubstring(c.expected))
			})
		})
	}
}

func TestResultsInTheModeNodes(t *testing.T) {
	g := NewWithT(t)
	authority, err := pki.NewAuthority("nodes")
	g.Expect(err).NotTo(HaveOccurred())
	pair, err := authority.Issue(pki.Request{CommonName: "node", Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	g.Expect(err).NotTo(HaveOccurred())
	certificate, err := pair.TLS()
	g.Expect(err).NotTo(HaveOccurred())
	inNodes := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{certificate.Leaf}}
	for _, c := range []struct {
		client string
		change func(*http.Request)
		// Of the base, a repository of the account, another repository, the catalog, and a path of no object.
		expected []string
	}{
		{"a node", func(r *http.Request) { r.TLS = inNodes }, []string{"node", "node", "node", "denied", "unsupported"}},
		{
			"an account", func(r *http.Request) { r.SetBasicAuth("larder.a", "p") },
			[]string{"account", "account", "denied", "denied", "unsupported"},
		},
		{
			"another user", func(r *http.Request) { r.SetBasicAuth("alice", "p") },
			[]string{"challenged", "denied", "denied", "denied", "denied"},
		},
		{
			"a client without a credential", func(*http.Request) {},
			[]string{"challenged", "challenged", "challenged", "challenged", "challenged"},
		},
	} {
		t.Run("of "+c.client, func(t *testing.T) {
			g := NewWithT(t)
			var results []string
			gate := &Gate{
				Options:      Options{Mode: Nodes},
				Dependencies: Dependencies{Observe: func(result string) { results = append(results, result) }, Now: time.Now},
				nodes:        newNodes(&file[*x509.CertPool]{value: authority.Pool()}),
				accounts:     &file[accounts]{value: accounts{"larder.a": {prefixes: []string{"team"}, passwords: []password{hashOf("p")}}}},
			}
			handler := gate.Wrap("", func(http.Header) {}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			for _, path := range []string{"/v2/", tag, "/v2/other/app/manifests/v1", "/v2/_catalog", "/v2/team/app/blobs/uploads/"} {
				r := httptest.NewRequest(http.MethodGet, path, nil)
				c.change(r)
				handler.ServeHTTP(httptest.NewRecorder(), r)
			}
			g.Expect(results).To(Equal(c.expected))
		})
	}
}
