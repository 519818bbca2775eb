// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	imagev1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/larder-project/larder/test/cacheprocess"
	"github.com/larder-project/larder/test/upstreamsim"
)

// state is the state of the cache at the time of a request.
type state string

const (
	cold state = "not cached"
	warm state = "cached"
	down state = "cached, upstream down"
)

const (
	name    = "library/nested/app"
	tag     = "v1.0"
	index   = "multi"
	docker  = "docker"
	signing = "application/vnd.example.signature"
	listing = "application/vnd.example.bom"
)

// fixture is a cache with an upstream with content.
type fixture struct {
	upstream   *upstreamsim.Registry
	server     *cacheprocess.Server
	image      upstreamsim.Image
	other      upstreamsim.Image
	index      upstreamsim.Content
	docker     upstreamsim.Image
	signature  upstreamsim.Image
	bom        upstreamsim.Image
	inOtherOne upstreamsim.Image // of another repository
}

// given starts a cache in the given state.
func given(ctx context.Context, s state, options upstreamsim.Options) *fixture {
	GinkgoHelper()
	f := &fixture{
		image: upstreamsim.RandomImage(1, 2, 100_000),
		other: upstreamsim.RandomImage(2, 1, 1000),
	}
	options.Authentication, options.Username, options.Password = upstreamsim.Bearer, "robot", "secret"
	var err error
	f.upstream, err = upstreamsim.Start(options)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(f.upstream.Close)
	f.fill()

	f.server, err = cacheprocess.New(implementation, filepath.Join(GinkgoT().TempDir(), "cache"), cacheprocess.Config{
		RemoteURL: f.upstream.URL(), Username: options.Username, Password: options.Password,
	})
	Expect(err).NotTo(HaveOccurred())
	Expect(f.server.Start(ctx)).To(Succeed())
	DeferCleanup(f.server.Kill)
	if s != cold {
		f.heat(ctx)
	}
	if s == down {
		f.upstream.Refuse()
	}
	return f
}

func (f *fixture) fill() {
	f.upstream.Push(name, tag, f.image)
	f.upstream.Push(name, "", f.other)
	f.index = upstreamsim.NewIndex(f.image, f.other)
	f.upstream.PushManifest(name, index, f.index)

	f.docker = asDocker(upstreamsim.RandomImage(3, 1, 1000))
	f.upstream.Push(name, docker, f.docker)

	f.signature = upstreamsim.NewArtifact(signing, f.image.Manifest.Descriptor())
	f.bom = upstreamsim.NewArtifact(listing, f.image.Manifest.Descriptor())
	f.upstream.Push(name, "", f.signature)
	f.upstream.Push(name, "", f.bom)

	f.inOtherOne = upstreamsim.RandomImage(4, 1, 1000)
	f.upstream.Push("library/other", tag, f.inOtherOne)
}

// asDocker gives an image Docker's media types.
func asDocker(image upstreamsim.Image) upstreamsim.Image {
	var manifest imagev1.Manifest
	Expect(json.Unmarshal(image.Manifest.Data, &manifest)).To(Succeed())
	manifest.MediaType = "application/vnd.docker.distribution.manifest.v2+json"
	manifest.Config.MediaType = "application/vnd.docker.container.image.v1+json"
	for i := range manifest.Layers {
		manifest.Layers[i].MediaType = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	}
	data, err := json.Marshal(manifest)
	Expect(err).NotTo(HaveOccurred())
	image.Manifest = upstreamsim.Content{MediaType: manifest.MediaType, Data: data}
	return image
}

// heat makes the cache fetch everything that the specs request.
func (f *fixture) heat(ctx context.Context) {
	GinkgoHelper()
	client := f.server.Client()
	defer client.Close()
	pulls := map[string][]string{
		name:            {tag, index, docker, f.image.Digest().String(), f.other.Digest().String(), f.signature.Digest().String(), f.bom.Digest().String()},
		"library/other": {tag},
	}
	for repository, references := range pulls {
		for _, reference := range references {
			_, err := client.Manifest(ctx, repository, reference)
			Expect(err).NotTo(HaveOccurred())
		}
	}
	for repository, images := range map[string][]upstreamsim.Image{name: {f.image, f.other, f.docker, f.signature}, "library/other": {f.inOtherOne}} {
		for _, image := range images {
			for _, blob := range image.Blobs {
				_, err := client.Blob(ctx, repository, blob.Descriptor().Digest)
				Expect(err).NotTo(HaveOccurred())
			}
		}
	}
	for _, path := range []string{"/tags/list", "/referrers/" + f.image.Digest().String()} {
		f.get(ctx, http.MethodGet, "/v2/"+name+path, nil)
	}
	f.awaitStored()
}

// awaitStored waits until everything that was sent is stored.
func (f *fixture) awaitStored() {
	GinkgoHelper()
	for _, image := range []upstreamsim.Image{f.image, f.other, f.docker, f.signature, f.inOtherOne} {
		for _, content := range append(image.Blobs, image.Manifest) {
			hex := content.Descriptor().Digest.Encoded()
			path := filepath.Join(f.server.DataDirectory(), "docker/registry/v2/blobs/sha256", hex[:2], hex, "data")
			Eventually(path).Should(BeAnExistingFile(), f.server.LogTail)
		}
	}
}

// response is a response of the cache.
type response struct {
	status int
	header http.Header
	length int64
	body   []byte
}

func (f *fixture) get(ctx context.Context, method, path string, header map[string]string) response {
	GinkgoHelper()
	request, err := http.NewRequestWithContext(ctx, method, f.server.URL()+path, nil)
	Expect(err).NotTo(HaveOccurred())
	for key, value := range header {
		request.Header.Set(key, value)
	}
	client := f.server.Client()
	defer client.Close()
	received, err := client.HTTP.Do(request)
	Expect(err).NotTo(HaveOccurred())
	defer func() { _ = received.Body.Close() }()
	body, err := io.ReadAll(received.Body)
	Expect(err).NotTo(HaveOccurred())
	return response{status: received.StatusCode, header: received.Header, length: received.ContentLength, body: body}
}

// expectError expects a response with a body in the specified format and one of its error codes.
func (r response) expectError(status int, codes ...string) {
	GinkgoHelper()
	Expect(r.status).To(Equal(status), string(r.body))
	Expect(r.header.Get("Content-Type")).To(HavePrefix("application/json"))
	var parsed struct {
		Errors []struct{ Code, Message string }
	}
	Expect(json.Unmarshal(r.body, &parsed)).To(Succeed(), string(r.body))
	Expect(parsed.Errors).NotTo(BeEmpty())
	for _, e := range parsed.Errors {
		Expect(e.Code).To(BeElementOf(codes))
		Expect(e.Code).To(MatchRegexp("^[A-Z_]+$"))
	}
}

// next returns the path of the next page in the Link header, or an empty path.
func (r response) next() string {
	GinkgoHelper()
	link := r.header.Get("Link")
	if link == "" {
		return ""
	}
	Expect(link).To(MatchRegexp(`^<[^>]+>; *rel="?next"?$`))
	target, err := url.Parse(link[1:strings.IndexByte(link, '>')])
	Expect(err).NotTo(HaveOccurred())
	return target.RequestURI()
}
