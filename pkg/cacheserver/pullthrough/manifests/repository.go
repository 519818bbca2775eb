// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"context"
	"mime"
	"net/http"
	"strings"

	"github.com/distribution/distribution/v3"
	"github.com/distribution/distribution/v3/manifest/manifestlist"
	_ "github.com/distribution/distribution/v3/manifest/ocischema" // Distribution's registrations of manifest types.
	_ "github.com/distribution/distribution/v3/manifest/schema2"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/content"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/manifest"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/response"
)

// Repository returns the manifests of a repository, for Distribution.
func (s *Service) Repository(name string) distribution.ManifestService {
	return &repository{service: s, name: name}
}

type repository struct {
	service *Service
	name    string
}

// Exists implements distribution.ManifestService.
func (r *repository) Exists(ctx context.Context, d digest.Digest) (bool, error) {
	_, err := r.service.Get(ctx, r.name, d)
	if remote.Is(err, remote.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// Get implements distribution.ManifestService.
func (r *repository) Get(ctx context.Context, d digest.Digest, _ ...distribution.ManifestServiceOption) (distribution.Manifest, error) {
	r.service.Metrics.Requests.WithLabelValues(metrics.Manifest).Inc()
	l, err := r.service.get(ctx, r.name, d, r.service.apart(ctx))
	if err != nil {
		return nil, response.Error(ctx, err, distribution.ErrManifestUnknownRevision{Name: r.name, Revision: d})
	}
	if l.unstored != nil {
		response.From(ctx).NoteUnstored(content.IsFull(l.unstored))
	}
	r.service.RecordServed(ctx, r.name, l.Manifest)
	return r.service.negotiated(ctx, l.Manifest), nil
}

// Put implements distribution.ManifestService.
func (*repository) Put(context.Context, distribution.Manifest, ...distribution.ManifestServiceOption) (digest.Digest, error) {
	return "", distribution.ErrUnsupported
}

// Delete implements distribution.ManifestService.
func (*repository) Delete(context.Context, digest.Digest) error {
	return distribution.ErrUnsupported
}

// RecordServed records that a request gets a manifest of a repository, and gives its client time to take it.
func (s *Service) RecordServed(ctx context.Context, repository string, m content.Manifest) {
	if s.Apart != nil && m.Apart && !s.Apart(ctx) {
		s.own(repository, m)
	}
	s.Content.Touch(m.Digest)
	w := response.From(ctx)
	w.Expect(len(m.Content))
	w.NoteDigest(m.Digest)
	s.Metrics.Served(metrics.Manifest, int64(len(m.Content)), !w.Fetched())
}

// own makes a manifest part of a repository for all clients of the repository, one of which may read it.
func (s *Service) own(repository string, m content.Manifest) {
	if l, ok := s.recent.Get(key{repository, m.Digest}); ok {
		l.Apart = false
		s.recent.Add(key{repository, m.Digest}, l)
	}
	s.Content.OwnManifest(repository, m)
}

// negotiated returns a manifest for Distribution's handler. A manifest that the client accepts goes out byte for byte.
// Any other is parsed first, because Distribution negotiates by the Go type.
func (s *Service) negotiated(ctx context.Context, m content.Manifest) distribution.Manifest {
	r, ok := ctx.Value("http.request").(*http.Request)
	if !ok || Accepts(r.Header, m.MediaType) {
		return document{m}
	}
	result := distribution.Manifest(document{m})
	_ = s.Parsing.Do(ctx, func() error {
		parsed, _, err := distribution.UnmarshalManifest(m.MediaType, m.Content)
		if err == nil {
			result = parsed
		}
		return err
	})
	return result
}

// Accepts reports whether a client accepts a media type. A client without an Accept header accepts everything but
// Docker manifest lists, which old clients do not understand: Distribution sends them one image of the list.
func Accepts(header http.Header, mediaType string) bool {
	specific := false
	for _, accept := range header["Accept"] {
		for part := range strings.SplitSeq(accept, ",") {
			accepted, _, err := mime.ParseMediaType(part)
			if err != nil {
				continue
			}
			if accepted == mediaType {
				return true
			}
			specific = specific || accepted != "*/*"
		}
	}
	return !specific && mediaType != manifestlist.MediaTypeManifestList
}

// document is a manifest that Distribution need not parse.
type document struct{ content.Manifest }

// References implements distribution.Manifest, for Distribution's notifications.
func (d document) References() []v1.Descriptor {
	info, err := manifest.Parse(d.Content, d.MediaType)
	if err != nil {
		return nil
	}
	references := make([]v1.Descriptor, 0, len(info.Children))
	for _, child := range info.Children {
		references = append(references, v1.Descriptor{Digest: child.Digest, Size: child.Size, MediaType: child.MediaType})
	}
	return references
}

// Payload implements distribution.Manifest.
func (d document) Payload() (mediaType string, payload []byte, err error) {
	return d.MediaType, d.Content, nil
}
