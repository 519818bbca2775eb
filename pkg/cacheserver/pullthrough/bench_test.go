// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
	"github.com/larder-project/larder/test/enginetest"
	"github.com/larder-project/larder/test/pull"
	"github.com/larder-project/larder/test/upstreamsim"
)

// BenchmarkHeadFresh is HEAD of a tag within its freshness window, without the network.
func BenchmarkHeadFresh(b *testing.B) {
	c := enginetest.New(b, upstreamsim.Options{}, func(o *pullthrough.Options) { o.Freshness = time.Hour })
	c.Upstream.Push("library/app", "v1", upstreamsim.RandomImage(1, 4, 1024))
	if err := c.Pull("library/app", "v1"); err != nil {
		b.Fatal(err)
	}
	request := httptest.NewRequest(http.MethodHead, "/v2/library/app/manifests/v1", nil)
	request.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json")
	handler := c.Engine.Handler(pullthrough.API{}, c.App)
	b.ReportAllocs()
	for b.Loop() {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, request)
		if recorder.Code != http.StatusOK {
			b.Fatalf("status %d", recorder.Code)
		}
	}
}

// BenchmarkWarm is a GET of a cached blob of 16 MiB, against Go's file server with the same file.
func BenchmarkWarm(b *testing.B) {
	c := enginetest.New(b, upstreamsim.Options{}, nil)
	image := upstreamsim.RandomImage(1, 1, 16<<20)
	c.Upstream.Push("library/app", "v1", image)
	if err := c.Pull("library/app", "v1"); err != nil {
		b.Fatal(err)
	}
	c.Restart(nil)
	layer := image.Layers()[0].Descriptor().Digest
	path := "/v2/library/app/blobs/" + layer.String()
	raw := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, c.BlobPath(layer))
	})
	for name, handler := range map[string]http.Handler{"raw": raw, "ours": c.Server.Config.Handler} {
		for _, protocol := range []string{"plain", "tls", "h2"} {
			b.Run(name+"/"+protocol, func(b *testing.B) { getRepeatedly(b, handler, protocol, path) })
		}
	}
}

func getRepeatedly(b *testing.B, handler http.Handler, protocol, path string) {
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = protocol == "h2"
	if protocol == "plain" {
		server.Start()
	} else {
		server.StartTLS()
	}
	defer server.Close()
	buffer := make([]byte, 256<<10)
	b.SetBytes(16 << 20)
	for b.Loop() {
		response, err := server.Client().Get(server.URL + path)
		if err != nil {
			b.Fatal(err)
		}
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, response.Body, buffer)
		if err != nil || n != 16<<20 {
			b.Fatalf("%d bytes: %v", n, err)
		}
		if err := response.Body.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCold is 64 clients that pull the same image of 4 layers of 16 MiB at once, from a cache that has none of it.
func BenchmarkCold(b *testing.B) {
	c := enginetest.New(b, upstreamsim.Options{}, nil)
	for i := 0; b.Loop(); i++ {
		tag := fmt.Sprintf("v%d", i)
		c.Upstream.Push("library/app", tag, upstreamsim.RandomImage(uint64(i), 4, 16<<20))
		var clients errgroup.Group
		for range 64 {
			clients.Go(func() error {
				client := pull.NewClient(c.Server.URL, &http.Transport{})
				defer client.Close()
				_, err := client.Image(context.Background(), "library/app", tag)
				return err
			})
		}
		if err := clients.Wait(); err != nil {
			b.Fatal(err)
		}
	}
}
