// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"testing"
	"time"

	v2 "github.com/distribution/distribution/v3/registry/api/v2"
	"github.com/gorilla/mux"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus/hooks/test"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/route"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
	"github.com/larder-project/larder/pkg/credentials"
)

// reached is where a router sends a request.
type reached struct {
	kind, name, reference string
	called                bool
}

// newRouter returns Distribution's router, which notes where it sends requests.
func newRouter(prefix string, to *reached) http.Handler {
	router := v2.RouterWithPrefix(prefix)
	for _, kind := range route.Kinds {
		if found := router.GetRoute(kind); found != nil {
			found.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				vars := mux.Vars(r)
				reference := vars["reference"] + vars["digest"] + vars["uuid"]
				*to = reached{kind: kind, name: vars["name"], reference: reference, called: true}
			})
		}
	}
	return router
}

// FuzzRoute looks for paths that mean one repository to the gate and another to Distribution's router behind it.
func FuzzRoute(f *testing.F) {
	for _, path := range []string{
		"/v2/", "/v2", "/v2/_catalog", "/v2/a/manifests/b", "/v2/a/b/blobs/sha256:" + zeros, "/v2/a/tags/list", "/v2/a/tags/list/",
		"/v2/a/blobs/uploads/", "/v2/a/blobs/uploads/x", "/v2/a/blobs/uploads/manifests/b", "/v2/a/manifests/b/blobs/sha256:" + zeros,
		"/v2/a/../b/manifests/c", "/v2/a/%2e%2e/b/manifests/c", "/v2/a%2Fb/manifests/c", "/v2//a/manifests/b", "/v2/a/manifests//b",
		"/v2/a.b:5000/c/manifests/d", "/v2/A/b/manifests/c", "/v2/a/manifests/tags/list", "/v2/tags/list/tags/list", "//v2/a/manifests/b",
		"http://x/v2/a/manifests/b", "http://u:p@x/v2/a/manifests/b", "/v2/a/manifests/b?x=/../c", "/v2/a/manifests/b#/v2/c/manifests/d",
		"/v2/a/manifests/b;x", "/v2/./a/manifests/b", "/v2/a/manifests/.", "/v2/a/manifests/..",
		"/v2/a/blobs/x", "/v2/a/blobs/md5:" + zeros, "/v2/a/manifests/x:y", "/v2/a/referrers/x", "/v2/../a/blobs/sha256:" + zeros,
	} {
		f.Add(path, "")
		f.Add("/cache"+path, "/cache/")
	}
	files, err := store.Open(f.TempDir(), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path, prefix string) {
		if prefix != "" && prefix != "/cache/" {
			return
		}
		target, err := url.ParseRequestURI(path)
		if err != nil {
			return
		}
		for _, mode := range []Mode{Nodes, PullSecrets} {
			fuzzRoute(t, newFuzzedGate(t, mode, files, route.Parse(prefix, target.Path).Repository), path, prefix, target)
		}
	})
}

// newFuzzedGate returns a Gate that lets the account "larder.a" read everything, and whose clients have a grant for a
// repository.
func newFuzzedGate(t *testing.T, mode Mode, files *store.Store, repository string) *Gate {
	upstream := &asker{respond: always(nil)}
	log, _ := test.NewNullLogger()
	g, err := New(Options{Mode: mode, GrantDuration: time.Minute, OutageGrantDuration: time.Hour}, Dependencies{
		Upstream: upstream, Health: upstream, Guests: NewGuests(), Observe: func(string) {}, MaxWait: time.Second, Log: log, Now: time.Now,
		Owns: func(_, repository string, d digest.Digest) bool { return files.HasLayer(repository, d) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	g.accounts = &file[accounts]{value: accounts{"larder.a": {all: true, passwords: []password{hashOf("p")}}}}
	for _, c := range []client{{}, g.cache(netip.Addr{})} {
		g.memory(c).allow(object{repository: repository}.whole(c), grant{proven: time.Now(), until: time.Now().Add(time.Minute)})
	}
	return g
}

func fuzzRoute(t *testing.T, g *Gate, path, prefix string, target *url.URL) {
	requested := *target
	var to reached
	var passed *http.Request
	router := newRouter(prefix, &to)
	handler := g.Wrap(prefix, func(http.Header) {}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		passed = r
		router.ServeHTTP(w, r)
	}))
	r := &http.Request{Method: http.MethodGet, URL: &requested, RequestURI: path, Host: "cache", Header: http.Header{}}
	r.SetBasicAuth("larder.a", "p")
	handler.ServeHTTP(httptest.NewRecorder(), r)
	if passed == nil {
		return
	}
	if passed.Header.Get("Authorization") != "" || takeCredential(passed) != (credentials.Credential{}) {
		t.Error("the credential passed")
	}
	switch {
	case !to.called || to.kind == route.Base:
	case to.kind == route.Catalog, to.kind == route.BlobUpload, to.kind == route.BlobUploadChunk:
		t.Errorf("%s passed", to.kind)
	case !g.Passed(passed.Context(), to.name):
		t.Errorf("%q passed as something other than %s of %q", path, to.kind, to.name)
	case route.Parse(prefix, target.Path) != route.Route{Kind: to.kind, Repository: to.name, Reference: to.reference}:
		t.Errorf("%q is %+v to the router", path, to)
	}
}
