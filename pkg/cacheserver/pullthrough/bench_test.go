// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
	"github.com/larder-project/larder/test/upstreamsim"
)

// BenchmarkHeadFresh is HEAD of a tag within its freshness window, without the network.
func BenchmarkHeadFresh(b *testing.B) {
	c := newCache(b, upstreamsim.Options{}, func(o *pullthrough.Options) { o.Freshness = time.Hour })
	c.upstream.Push("library/app", "v1", upstreamsim.RandomImage(1, 4, 1024))
	if err := c.pull("library/app", "v1"); err != nil {
		b.Fatal(err)
	}
	request := httptest.NewRequest(http.MethodHead, "/v2/library/app/manifests/v1", nil)
	request.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json")
	handler := c.engine.Handler(c.app)
	b.ReportAllocs()
	for b.Loop() {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, request)
		if recorder.Code != http.StatusOK {
			b.Fatalf("status %d", recorder.Code)
		}
	}
}
