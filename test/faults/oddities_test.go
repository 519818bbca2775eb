// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	imagev1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/larder-project/larder/test/cacheprocess"
	"github.com/larder-project/larder/test/pull"
	"github.com/larder-project/larder/test/upstreamsim"
)

// Peculiarities outside of the specification. Each is known of a public registry or of a common proxy.
var _ = Describe("odd upstream", func() {
	inject(
		fault{name: "rejects revoked tokens with 400: renewed", stock: stockWithstands, check: endsTokens(http.StatusBadRequest, "")},
		fault{name: "rejects revoked tokens with 403: renewed", stock: stockWithstands, check: endsTokens(http.StatusForbidden, "")},
		fault{name: "rejects revoked tokens with 404: renewed", stock: stockWithstands, check: endsTokens(http.StatusNotFound, "")},
		fault{name: "rejects revoked tokens with 401, no challenge: renewed", stock: stockWithstands, check: endsTokens(http.StatusUnauthorized, "")},
		fault{name: "rejects revoked tokens with 401, foreign realm: renewed", stock: stockWithstands,
			check: endsTokens(http.StatusUnauthorized, `Bearer realm="https://authn.example.com/token",service="registry",error="invalid_token"`)},
		fault{name: "hides private content with 404: authenticates", stock: stockWithstands, check: hidesContent(http.StatusNotFound)},
		fault{name: "hides private content with 403: authenticates", stock: stockWithstands, check: hidesContent(http.StatusForbidden)},

		fault{name: "rejects HEAD with 403: moved tag served", stock: stockFails, check: refusesHead(status(http.StatusForbidden))},
		fault{name: "rejects HEAD with 404: moved tag served", stock: stockFails, check: refusesHead(status(http.StatusNotFound))},
		fault{name: "rejects HEAD with 405: moved tag served", stock: stockFails, check: refusesHead(status(http.StatusMethodNotAllowed))},
		fault{name: "rejects HEAD with 501: moved tag served", stock: stockFails, check: refusesHead(status(http.StatusNotImplemented))},
		fault{name: "aborts HEAD: moved tag served", stock: stockFails, check: refusesHead(breaksOff)},
		fault{name: "rejects HEAD of blobs: shared layer served", stock: stockFails, check: refusesHeadOfBlobs},
		fault{name: "reports length 0 in HEAD of blobs: length of the manifest used", stock: stockFails, check: tellsNoLength},

		fault{name: "compresses manifests, tokens and lists: decompressed", stock: stockFails, check: compresses},
		fault{name: "compresses blobs in transit: decompressed", stock: stockWithstands, check: compressesBlobs},
		fault{name: "declares gzip layers as Content-Encoding gzip: kept as they are", stock: stockFails, check: labelsLayers},

		fault{name: "challenges with Negotiate and Basic, two headers: Basic used", stock: stockWithstands, check: challenges(upstreamsim.Basic, false, "Negotiate")},
		fault{name: "challenges with Negotiate and Basic, one header: Basic used", stock: stockFails, check: challenges(upstreamsim.Basic, true, "Negotiate")},
		fault{name: "challenges with Basic and Bearer, two headers: Bearer used", stock: stockFails, check: challenges(upstreamsim.Bearer, false, `Basic realm="x"`)},
		fault{name: "challenges with Basic and Bearer, one header: Bearer used", stock: stockFails, check: challenges(upstreamsim.Bearer, true, `Basic realm="x"`)},
		fault{name: "redirects to a registry with anonymous tokens: served", stock: stockFails, check: redirectsToRegistry},
		fault{name: "realm on another host, no credential: served", stock: stockFails, check: realmWithoutCredential},

		fault{name: "rejects ranges with 416: restarted from the beginning", stock: stockFails, check: refusesRanges(http.StatusRequestedRangeNotSatisfiable)},
		fault{name: "rejects ranges with 400: restarted from the beginning", stock: stockFails, check: refusesRanges(http.StatusBadRequest)},
		fault{name: "sends another range: restarted from the beginning", stock: stockFails, check: mistakesRanges},

		fault{name: "rejects referrers with 400: 404 to clients", stock: stockWithstands, check: noReferrers(status(http.StatusBadRequest))},
		fault{name: "rejects referrers with 405: 404 to clients", stock: stockWithstands, check: noReferrers(status(http.StatusMethodNotAllowed))},
		fault{name: "rejects referrers with 406: 404 to clients", stock: stockWithstands, check: noReferrers(status(http.StatusNotAcceptable))},
		fault{name: "rejects referrers with 501: 404 to clients", stock: stockWithstands, check: noReferrers(status(http.StatusNotImplemented))},
		fault{name: "sends a web page for referrers: 404 to clients", stock: stockWithstands, check: noReferrers(portal)},
		fault{name: "sends null referrers: 404 to clients", stock: stockWithstands, check: noReferrers(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", imagev1.MediaTypeImageIndex)
			_, _ = w.Write([]byte(`{"schemaVersion":2,"mediaType":"` + imagev1.MediaTypeImageIndex + `","manifests":null}`))
		})},

		fault{name: "sends a web page for a blob: error before the header", stock: stockFails, check: pageForBlob(portal)},
		fault{name: "sends a chunked web page for a blob: error before the header", stock: stockFails, check: pageForBlob(
			func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/html")
				_ = http.NewResponseController(w).Flush()
				portal(w, r)
			})},
		fault{name: "sends a web page for a manifest: error, not an image", stock: stockFails, check: pageForManifest},
		fault{name: "sends a web page for a list: error with the host", stock: stockFails, check: pageForList},
		fault{name: "sends an image of schema 1: error with the reason", stock: stockFails, check: schema1},
		fault{name: "sends a manifest of an unknown type: served unchanged", stock: stockFails, check: unknownType},
		fault{name: "sends a wrong digest header with a manifest: served", stock: stockFails, check: wrongDigestHeader},

		fault{name: "rejects lists with 429 for a day: pulls unaffected", stock: stockWithstands, check: limitsLists},
		fault{name: "redirects to the unspecified address: not followed", stock: stockFails, check: redirectsToUnspecified},
		fault{name: "has a rejected realm: log stays structured", stock: stockWithstands, check: structuredLog},
		fault{name: "rejects the credential of a helper: helper runs again", stock: stockFails, check: asksHelperAgain},
	)
})

// endsTokens revokes all tokens and rejects them in an unusual way.
func endsTokens(code int, challenge string) func(context.Context, Gomega, *cache) {
	return func(ctx context.Context, g Gomega, c *cache) {
		c.start(ctx, g, setup{})
		c.upstream.Wrap(changed(func(r *http.Request) bool {
			return strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ")
		}, func(recorder *httptest.ResponseRecorder, _ *http.Request) {
			if recorder.Code != http.StatusUnauthorized {
				return
			}
			recorder.Code = code
			recorder.Header().Del("Www-Authenticate")
			if challenge != "" {
				recorder.Header().Set("Www-Authenticate", challenge)
			}
		}))
		c.push(name, tag, 1, 2, mib)
		g.Expect(c.pull(ctx, name, tag)).To(Succeed())
		for i := range 2 {
			c.upstream.RevokeTokens()
			moved := c.push(name, tag, uint64(2+i), 2, mib)
			g.Eventually(ctx, func() error { return c.served(ctx, moved) }).WithTimeout(5 * time.Second).Should(Succeed())
			g.Expect(c.pull(ctx, name, tag)).To(Succeed())
		}

		// A missing tag costs one new token, not one per request.
		before := c.upstream.Counters().Total(upstreamsim.Token)
		for range 5 {
			g.Expect(pull.StatusOf(c.pull(ctx, name, "missing"))).To(Equal(http.StatusNotFound))
		}
		if c.implementation.Name == cacheprocess.Ours {
			g.Expect(c.upstream.Counters().Total(upstreamsim.Token) - before).To(BeNumerically("<=", 1))
		}
	}
}

// served checks that the tag leads to an image.
func (c *cache) served(ctx context.Context, image upstreamsim.Image) error {
	return c.use(func(client *pull.Client) error {
		d, err := client.Head(ctx, name, tag)
		if err == nil && d != image.Digest() {
			err = fmt.Errorf("the tag leads to %s", d)
		}
		return err
	})
}

// hidesContent responds to anonymous requests, except for the base path, as if there were no content.
func hidesContent(code int) func(context.Context, Gomega, *cache) {
	return func(ctx context.Context, g Gomega, c *cache) {
		for _, authentication := range []upstreamsim.Authentication{upstreamsim.Bearer, upstreamsim.Basic} {
			c.prepare(g, setup{upstream: upstreamsim.Options{Authentication: authentication}})
			var anonymous atomic.Int32
			c.upstream.Wrap(instead(func(r *http.Request) bool {
				return r.Header.Get("Authorization") == "" && r.URL.Path != "/v2/" && r.URL.Path != "/token"
			}, func(w http.ResponseWriter, _ *http.Request) {
				anonymous.Add(1)
				w.WriteHeader(code)
			}))
			g.Expect(c.server.Start(ctx)).To(Succeed())
			c.push(name, tag, 1, 2, mib)
			c.push("library/other", tag, 2, 2, mib)
			g.Expect(c.pull(ctx, name, tag)).To(Succeed())
			g.Expect(c.pull(ctx, "library/other", tag)).To(Succeed())
			if c.implementation.Name == cacheprocess.Ours {
				g.Expect(anonymous.Load()).To(BeEquivalentTo(1), "the cache remembers it")
			}
			c.server.Kill()
		}
	}
}

func refusesHead(refusal http.HandlerFunc) func(context.Context, Gomega, *cache) {
	return func(ctx context.Context, g Gomega, c *cache) {
		c.prepare(g, setup{upstream: upstreamsim.Options{Authentication: upstreamsim.Basic}})
		var heads atomic.Int32
		c.upstream.Wrap(instead(to(http.MethodHead, "/"), func(w http.ResponseWriter, r *http.Request) {
			if _, _, ok := r.BasicAuth(); ok {
				heads.Add(1)
			}
			refusal(w, r)
		}))
		g.Expect(c.server.Start(ctx)).To(Succeed())
		c.heat(ctx, g, c.push(name, tag, 1, 2, mib))
		var known int32
		for i := range 3 {
			moved := c.push(name, tag, uint64(2+i), 1, mib)
			g.Eventually(ctx, func() error { return c.served(ctx, moved) }).WithTimeout(5 * time.Second).Should(Succeed())
			g.Expect(c.pull(ctx, name, tag)).To(Succeed())
			if i == 1 { // Until then, the fault may be temporary.
				known = heads.Load()
			}
		}
		if c.implementation.Name == cacheprocess.Ours {
			g.Expect(heads.Load()).To(Equal(known), "the cache remembers it")
		}
		c.upstream.DeleteTag(name, tag)
		g.Eventually(ctx, func() int { return pull.StatusOf(c.pull(ctx, name, tag)) }).WithTimeout(5 * time.Second).
			Should(Equal(http.StatusNotFound))
	}
}

// refusesHeadOfBlobs shares a layer between two repositories; the second one only supports GET.
func refusesHeadOfBlobs(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	c.upstream.Wrap(instead(to(http.MethodHead, "/blobs/"), status(http.StatusForbidden)))
	image := c.push(name, tag, 1, 1, mib)
	c.heat(ctx, g, image)
	c.upstream.Push("library/other", tag, image)
	g.Expect(c.use(func(client *pull.Client) error {
		_, err := client.Blob(ctx, "library/other", image.Layers()[0].Descriptor().Digest)
		return err
	})).To(Succeed())
}

func tellsNoLength(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	c.upstream.Wrap(changed(to(http.MethodHead, "/blobs/"), func(recorder *httptest.ResponseRecorder, _ *http.Request) {
		recorder.Header().Set("Content-Length", "0")
	}))
	image := c.push(name, tag, 1, 1, mib)
	g.Expect(c.use(func(client *pull.Client) error {
		if _, err := client.Manifest(ctx, name, tag); err != nil {
			return err
		}
		layer := image.Layers()[0].Descriptor()
		response, err := client.Do(ctx, http.MethodHead, "/v2/"+name+"/blobs/"+layer.Digest.String(), nil)
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		g.Expect(response.ContentLength).To(Equal(layer.Size))
		return nil
	})).To(Succeed())
	g.Expect(c.pull(ctx, name, tag)).To(Succeed())
}

func compresses(ctx context.Context, g Gomega, c *cache) {
	c.prepare(g, setup{})
	c.upstream.Wrap(changed(func(r *http.Request) bool { return !strings.Contains(r.URL.Path, "/blobs/") }, compressed))
	g.Expect(c.server.Start(ctx)).To(Succeed())
	image := c.push(name, tag, 1, 2, mib)
	g.Expect(c.pull(ctx, name, tag)).To(Succeed())
	g.Expect(c.pull(ctx, name, image.Digest().String())).To(Succeed())
	g.Expect(c.get(ctx, "/v2/"+name+"/tags/list")).To(ContainSubstring(tag))
	moved := c.push(name, tag, 2, 2, mib)
	g.Eventually(ctx, func() error { return c.served(ctx, moved) }).WithTimeout(5 * time.Second).Should(Succeed())
}

// get returns the body of a response.
func (c *cache) get(ctx context.Context, path string) (body string, err error) {
	err = c.use(func(client *pull.Client) error {
		response, err := client.Do(ctx, http.MethodGet, path, nil)
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		var content bytes.Buffer
		_, err = content.ReadFrom(response.Body)
		body = content.String()
		return err
	})
	return body, err
}

func compressesBlobs(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	c.upstream.Wrap(changed(to(http.MethodGet, "/blobs/"), compressed))
	c.push(name, tag, 1, 2, 100<<10)
	g.Expect(c.pull(ctx, name, tag)).To(Succeed())
	g.Expect(c.pull(ctx, name, tag)).To(Succeed())
}

// labelsLayers declares the compression of a layer as a content encoding, as some storage services do.
func labelsLayers(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	recorder := httptest.NewRecorder()
	recorder.Body = bytes.NewBuffer(bytes.Repeat([]byte("a layer "), 100_000))
	compressed(recorder, nil)
	image := upstreamsim.NewImage(upstreamsim.Content{MediaType: imagev1.MediaTypeImageLayerGzip, Data: recorder.Body.Bytes()})
	c.upstream.Push(name, tag, image)
	c.upstream.Wrap(changed(to(http.MethodGet, image.Layers()[0].Descriptor().Digest.String()), func(recorder *httptest.ResponseRecorder, _ *http.Request) {
		recorder.Header().Set("Content-Encoding", "gzip")
	}))
	g.Expect(c.pull(ctx, name, tag)).To(Succeed())
}

// challenges adds another challenge before that of the upstream.
func challenges(authentication upstreamsim.Authentication, inOneHeader bool, first string) func(context.Context, Gomega, *cache) {
	return func(ctx context.Context, g Gomega, c *cache) {
		c.prepare(g, setup{upstream: upstreamsim.Options{Authentication: authentication}})
		c.upstream.Wrap(changed(anything, func(recorder *httptest.ResponseRecorder, _ *http.Request) {
			challenge := recorder.Header().Get("Www-Authenticate")
			switch {
			case challenge == "":
			case inOneHeader:
				recorder.Header().Set("Www-Authenticate", first+", "+challenge)
			default:
				recorder.Header()["Www-Authenticate"] = []string{first, challenge}
			}
		}))
		g.Expect(c.server.Start(ctx)).To(Succeed())
		c.push(name, tag, 1, 2, mib)
		g.Expect(c.pull(ctx, name, tag)).To(Succeed())
	}
}

// redirectsToRegistry redirects to another registry, which issues anonymous tokens and must not receive the credential.
func redirectsToRegistry(ctx context.Context, g Gomega, c *cache) {
	c.prepare(g, setup{upstream: upstreamsim.Options{Authentication: upstreamsim.Anonymous}})
	other, err := upstreamsim.Start(upstreamsim.Options{Authentication: upstreamsim.Bearer, PublicTokens: true, Username: username, Password: "another"})
	g.Expect(err).NotTo(HaveOccurred())
	c.cleanups = append(c.cleanups, other.Close)
	var shown atomic.Int32
	other.Wrap(func(registry http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, _, ok := r.BasicAuth(); ok {
				shown.Add(1)
			}
			registry.ServeHTTP(w, r)
		})
	})
	c.upstream.Wrap(instead(to("", "/library/"), func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL()+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	g.Expect(c.server.Start(ctx)).To(Succeed())
	image := upstreamsim.RandomImage(1, 2, mib)
	other.Push(name, tag, image)
	g.Expect(c.pull(ctx, name, tag)).To(Succeed())
	moved := upstreamsim.RandomImage(2, 2, mib)
	other.Push(name, tag, moved)
	g.Eventually(ctx, func() error { return c.served(ctx, moved) }).WithTimeout(5 * time.Second).Should(Succeed())
	g.Expect(shown.Load()).To(BeZero())
	if c.implementation.Name == cacheprocess.Ours {
		g.Expect(other.Counters().Total(upstreamsim.Token)).To(Equal(1))
	}
}

func realmWithoutCredential(ctx context.Context, g Gomega, c *cache) {
	c.prepare(g, setup{upstream: upstreamsim.Options{PublicTokens: true}})
	c.server.Config.Username, c.server.Config.Password = "", ""
	c.push(name, tag, 1, 2, mib)
	c.upstream.Misbehave(upstreamsim.Faults{ForeignRealm: true})
	g.Expect(c.server.Start(ctx)).To(Succeed())
	g.Expect(c.pull(ctx, name, tag)).To(Succeed())
}

func hasRange(r *http.Request) bool { return r.Header.Get("Range") != "" }

func refusesRanges(code int) func(context.Context, Gomega, *cache) {
	return resumesAgainst(instead(hasRange, status(code)))
}

func mistakesRanges(ctx context.Context, g Gomega, c *cache) {
	resumesAgainst(changed(hasRange, func(recorder *httptest.ResponseRecorder, _ *http.Request) {
		recorder.Header().Set("Content-Range", "bytes 0-9/10")
	}))(ctx, g, c)
}

// resumesAgainst aborts a layer once, when it is requested without a range.
func resumesAgainst(ranges wrapper) func(context.Context, Gomega, *cache) {
	return func(ctx context.Context, g Gomega, c *cache) {
		c.start(ctx, g, setup{upstream: upstreamsim.Options{Authentication: upstreamsim.Anonymous}})
		c.upstream.Wrap(ranges)
		image := c.push(name, tag, 1, 1, 4*mib)
		c.upstream.Misbehave(upstreamsim.Faults{Only: []upstreamsim.Kind{upstreamsim.BlobGet}, CutAfter: mib, Times: 1})
		g.Expect(c.layer(ctx, image)).To(Succeed())
		g.Expect(c.upstream.Counters().Bytes).To(BeNumerically(">=", 5*mib), "the transfer was aborted")
	}
}

func noReferrers(response http.HandlerFunc) func(context.Context, Gomega, *cache) {
	return func(ctx context.Context, g Gomega, c *cache) {
		c.start(ctx, g, setup{})
		c.upstream.Wrap(instead(to("", "/referrers/"), response))
		image := c.push(name, tag, 1, 1, mib)
		g.Expect(c.pull(ctx, name, tag)).To(Succeed())
		for range 2 {
			_, err := c.get(ctx, "/v2/"+name+"/referrers/"+image.Digest().String())
			g.Expect(pull.StatusOf(err)).To(Equal(http.StatusNotFound), "%v", err)
		}
	}
}

func pageForBlob(page http.HandlerFunc) func(context.Context, Gomega, *cache) {
	return func(ctx context.Context, g Gomega, c *cache) {
		c.start(ctx, g, setup{})
		image := c.push(name, tag, 1, 1, mib)
		g.Expect(c.use(func(client *pull.Client) error {
			_, err := client.Manifest(ctx, name, tag)
			return err
		})).To(Succeed())
		c.upstream.Wrap(instead(to(http.MethodGet, "/blobs/"), page))
		g.Expect(pull.StatusOf(c.layer(ctx, image))).To(BeNumerically(">=", 500))
		c.upstream.Wrap(nil)
		g.Expect(c.pull(ctx, name, tag)).To(Succeed())
	}
}

func pageForManifest(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	image := c.push(name, tag, 1, 1, mib)
	c.upstream.Wrap(instead(to("", "/manifests/"), portal))
	for _, reference := range []string{tag, image.Digest().String()} {
		_, err := c.get(ctx, "/v2/"+name+"/manifests/"+reference)
		g.Expect(pull.StatusOf(err)).To(BeNumerically(">=", 500), "%v", err)
	}
	c.upstream.Wrap(nil)
	c.heat(ctx, g, image)
	c.upstream.Wrap(instead(to("", "/manifests/"), portal))
	g.Expect(c.pull(ctx, name, tag)).To(Succeed(), "cached content is served")
}

func pageForList(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	c.push(name, tag, 1, 1, mib)
	g.Expect(c.pull(ctx, name, tag)).To(Succeed())
	c.upstream.Wrap(instead(to("", "/tags/"), portal))
	_, err := c.get(ctx, "/v2/"+name+"/tags/list")
	var response *pull.StatusError
	g.Expect(errors.As(err, &response)).To(BeTrue(), "%v", err)
	g.Expect(response.Status).To(BeNumerically(">=", 500))
	g.Expect(response.Body).To(ContainSubstring(strings.TrimPrefix(c.upstream.URL(), "http://")))
}

func schema1(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	for tag, mediaType := range map[string]string{
		"v1": "application/vnd.docker.distribution.manifest.v1+prettyjws", "v2": "application/json",
	} {
		c.upstream.PushManifest(name, tag, upstreamsim.Content{
			MediaType: mediaType, Data: []byte(`{"schemaVersion":1,"name":"library/app","tag":"` + tag + `","fsLayers":[],"history":[],"signatures":[]}`),
		})
		_, err := c.get(ctx, "/v2/"+name+"/manifests/"+tag)
		var response *pull.StatusError
		g.Expect(errors.As(err, &response)).To(BeTrue(), "%v", err)
		g.Expect(response.Body).To(ContainSubstring("schema 1"))
	}
}

func unknownType(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	for tag, data := range map[string]string{
		"v1": `{"mediaType":"application/vnd.example.thing.v1+json","layers":"many","config":1,"schemaVersion":"two"}`,
		"v2": "\x00\x01 not JSON at all",
	} {
		content := upstreamsim.Content{MediaType: "application/vnd.example.thing.v1+json", Data: []byte(data)}
		c.upstream.PushManifest(name, tag, content)
		for _, reference := range []string{tag, content.Descriptor().Digest.String()} {
			g.Expect(c.get(ctx, "/v2/"+name+"/manifests/"+reference)).To(Equal(data))
		}
	}
}

func wrongDigestHeader(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	c.upstream.Wrap(changed(to(http.MethodGet, "/manifests/"), func(recorder *httptest.ResponseRecorder, _ *http.Request) {
		recorder.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("0", 64))
	}))
	image := c.push(name, tag, 1, 1, mib)
	g.Expect(c.get(ctx, "/v2/"+name+"/manifests/"+tag)).To(Equal(string(image.Manifest.Data)))
	moved := c.push(name, tag, 2, 1, mib)
	g.Eventually(ctx, func() error { return c.served(ctx, moved) }).WithTimeout(5 * time.Second).Should(Succeed())
}

func limitsLists(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	image := c.push(name, tag, 1, 2, mib)
	var lists atomic.Int32
	c.upstream.Wrap(instead(to("", "/tags/"), func(w http.ResponseWriter, _ *http.Request) {
		lists.Add(1)
		w.Header().Set("Retry-After", "86400")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	for range 5 {
		_, err := c.get(ctx, "/v2/"+name+"/tags/list")
		g.Expect(err).To(HaveOccurred())
	}
	if c.implementation.Name == cacheprocess.Ours {
		g.Expect(lists.Load()).To(BeEquivalentTo(1), "Retry-After is respected")
	}
	g.Expect(c.pull(ctx, name, tag)).To(Succeed())
	g.Expect(c.pull(ctx, name, image.Digest().String())).To(Succeed())
	moved := c.push(name, tag, 2, 1, mib)
	g.Eventually(ctx, func() error { return c.served(ctx, moved) }).WithTimeout(5 * time.Second).Should(Succeed())
}

// redirectsToUnspecified redirects to the unspecified address, which the operating system maps to the loopback address.
func redirectsToUnspecified(ctx context.Context, g Gomega, c *cache) {
	c.start(ctx, g, setup{})
	var reached atomic.Int32
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer inside.Close()
	port := inside.URL[strings.LastIndexByte(inside.URL, ':'):]
	image := c.push(name, tag, 1, 1, mib)
	for _, host := range []string{"0.0.0.0", "[::ffff:0.0.0.0]", "[::]"} {
		c.upstream.Wrap(instead(to(http.MethodGet, "/blobs/"), func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+host+port+r.URL.Path, http.StatusTemporaryRedirect)
		}))
		g.Expect(c.layer(ctx, image)).NotTo(Succeed())
	}
	g.Expect(reached.Load()).To(BeZero())
}

func structuredLog(ctx context.Context, g Gomega, c *cache) {
	c.prepare(g, setup{})
	c.push(name, tag, 1, 1, mib)
	c.upstream.Misbehave(upstreamsim.Faults{ForeignRealm: true})
	g.Expect(c.server.Start(ctx)).To(Succeed())
	g.Expect(c.pull(ctx, name, tag)).NotTo(Succeed())
	g.Expect(c.server.LogTail()).NotTo(ContainSubstring("RoundTripper returned"))
}

// asksHelperAgain rotates a credential before the end of its lifetime.
func asksHelperAgain(ctx context.Context, g Gomega, c *cache) {
	c.prepare(g, setup{upstream: upstreamsim.Options{Authentication: upstreamsim.Basic}})
	dir := c.temporaryDirectory(g)
	give := func(password string) {
		script := fmt.Sprintf("#!/bin/sh\necho '{\"Username\":%q,\"Secret\":%q}'\n", username, password)
		g.Expect(os.WriteFile(dir+"/next", []byte(script), 0o700)).To(Succeed())
		g.Expect(os.Rename(dir+"/next", dir+"/docker-credential-test")).To(Succeed())
	}
	give(password)
	c.server.Config.Username, c.server.Config.Password = "", ""
	c.server.Config.Helper = dir + "/docker-credential-test"
	g.Expect(c.server.Start(ctx)).To(Succeed())
	c.push(name, tag, 1, 1, mib)
	g.Expect(c.pull(ctx, name, tag)).To(Succeed())
	c.upstream.SetCredential(username, "rotated")
	give("rotated")
	c.push(name, "v2", 2, 1, mib)
	g.Expect(c.pull(ctx, name, "v2")).To(Succeed())
}
