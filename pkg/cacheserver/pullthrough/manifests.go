// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"container/list"
	"context"
	"errors"
	"mime"
	"net/http"
	"strings"
	"sync"

	"github.com/distribution/distribution/v3"
	"github.com/distribution/distribution/v3/manifest/manifestlist"
	_ "github.com/distribution/distribution/v3/manifest/ocischema" // Distribution's registrations of manifest types.
	_ "github.com/distribution/distribution/v3/manifest/schema2"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/index"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/manifest"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/metrics"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/retention"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
)

// storedManifest is a manifest as the upstream sent it. It matches its digest.
type storedManifest struct {
	digest    digest.Digest
	mediaType string
	content   []byte
	// proof says that the upstream sent it as what it says that it is, see owns.
	proof bool
}

// References implements distribution.Manifest, for Distribution's notifications.
func (m storedManifest) References() []v1.Descriptor {
	info, err := manifest.Parse(m.content, m.mediaType)
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
func (m storedManifest) Payload() (mediaType string, payload []byte, err error) {
	return m.mediaType, m.content, nil
}

// manifestService serves the manifests of a repository.
type manifestService struct {
	engine     *Engine
	repository string
}

// Exists implements distribution.ManifestService.
func (s *manifestService) Exists(ctx context.Context, d digest.Digest) (bool, error) {
	_, err := s.engine.manifest(ctx, s.repository, d)
	if remote.Is(err, remote.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// Get implements distribution.ManifestService.
func (s *manifestService) Get(ctx context.Context, d digest.Digest, _ ...distribution.ManifestServiceOption) (distribution.Manifest, error) {
	e := s.engine
	e.metrics.Requests.WithLabelValues(metrics.Manifest).Inc()
	m, err := e.manifest(ctx, s.repository, d)
	if err != nil {
		return nil, clientError(ctx, err, distribution.ErrManifestUnknownRevision{Name: s.repository, Revision: d})
	}
	e.answer(requestOf(ctx), m)
	return e.negotiated(ctx, m), nil
}

// answer counts an answer that is a manifest, and gives the client time to take it.
func (e *Engine) answer(r *request, m storedManifest) {
	e.index.Touch(m.digest)
	if len(m.content) > smallAnswer {
		r.extend()
	}
	e.served(metrics.Manifest, int64(len(m.content)), r == nil || !r.fetched)
}

// Put implements distribution.ManifestService.
func (s *manifestService) Put(context.Context, distribution.Manifest, ...distribution.ManifestServiceOption) (digest.Digest, error) {
	return "", distribution.ErrUnsupported
}

// Delete implements distribution.ManifestService.
func (s *manifestService) Delete(context.Context, digest.Digest) error {
	return distribution.ErrUnsupported
}

// negotiated returns a manifest as Distribution's handler should see it. One that the client accepts goes out as the
// bytes that it is. One that it does not accept is parsed, by which Distribution recognizes its type and negotiates.
func (e *Engine) negotiated(ctx context.Context, m storedManifest) distribution.Manifest {
	r, ok := ctx.Value("http.request").(*http.Request)
	if !ok || accepts(r.Header["Accept"], m.mediaType) {
		return m
	}
	done, err := turn(ctx, e.reads)
	if err != nil {
		return m
	}
	defer done()
	parsed, _, err := distribution.UnmarshalManifest(m.mediaType, m.content)
	if err != nil {
		return m
	}
	return parsed
}

// parse reads a manifest. What it takes of memory is a multiple of the manifest's size, so only a few are parsed at a time.
func (e *Engine) parse(ctx context.Context, content []byte, sentAs string) (manifest.Info, error) {
	done, err := turn(ctx, e.reads)
	if err != nil {
		return manifest.Info{}, err
	}
	defer done()
	return manifest.Parse(content, sentAs)
}

// accepts reports whether a client takes a media type. Who says nothing takes everything, except for the lists that
// clients from before there were any do not know: those get one image of the list.
func accepts(headers []string, mediaType string) bool {
	said := false
	for _, header := range headers {
		for part := range strings.SplitSeq(header, ",") {
			accepted, _, err := mime.ParseMediaType(part)
			if err != nil {
				continue
			}
			if accepted == mediaType {
				return true
			}
			said = said || accepted != "*/*"
		}
	}
	return !said && mediaType != manifestlist.MediaTypeManifestList
}

// manifest returns a manifest for a repository, from memory or the store if it is there.
func (e *Engine) manifest(ctx context.Context, repository string, d digest.Digest) (storedManifest, error) {
	if m, ok := e.recent.get(repository, d); ok {
		return m, nil
	}
	// An index that lists it is no proof that the repository has it (see owns). It has been served from there, or not.
	owned := e.store.HasManifest(repository, d)
	call, joined := e.manifests.Start(repository+"@"+d.String(), func(ctx context.Context) (storedManifest, error) {
		if m, ok := e.recent.get(repository, d); ok {
			return m, nil // Another call has fetched it since.
		}
		if owned {
			if m, err := e.readManifest(ctx, repository, d); err == nil {
				return m, nil
			}
		}
		return e.fetchManifest(ctx, repository, d.String())
	})
	switch r := requestOf(ctx); {
	case joined:
		e.metrics.Coalesced.WithLabelValues(metrics.Manifest).Inc()
	case !owned && r != nil:
		r.fetched = true
	}
	return call.Wait(ctx)
}

// readManifest reads a manifest from the store. What is on disk has to match its digest each time.
func (e *Engine) readManifest(ctx context.Context, repository string, d digest.Digest) (storedManifest, error) {
	done, err := turn(ctx, e.reads)
	if err != nil {
		return storedManifest{}, err
	}
	defer done()
	content, err := e.store.ReadBlob(d, manifest.MaxBytes)
	if err != nil {
		return storedManifest{}, err
	}
	if d.Algorithm().FromBytes(content) != d {
		e.metrics.Corrupt.Inc()
		e.log.WithField("digest", d).Warn("Dropped a manifest that does not match its digest")
		return storedManifest{}, errors.Join(errMismatch, e.keeper.Remove(d, retention.Corrupt))
	}
	link := e.index.Manifest(repository, d)
	m := storedManifest{digest: d, mediaType: link.MediaType, content: content, proof: link.Proof}
	if m.mediaType == "" {
		info, err := manifest.Parse(content, "")
		if err != nil {
			return storedManifest{}, err
		}
		m.mediaType = info.MediaType
		e.describe(repository, m, info)
	}
	e.recent.put(repository, m)
	return m, nil
}

// fetchManifest fetches and stores a manifest by tag or digest.
func (e *Engine) fetchManifest(ctx context.Context, repository, reference string) (storedManifest, error) {
	fetched, err := e.upstream.FetchManifest(ctx, repository, reference)
	if err != nil {
		return storedManifest{}, err
	}
	e.metrics.Misses.WithLabelValues(metrics.Manifest).Inc()
	e.metrics.PulledBytes.WithLabelValues(metrics.Manifest).Add(float64(len(fetched.Content)))
	info, err := e.parse(ctx, fetched.Content, fetched.MediaType)
	switch {
	case err != nil && ctx.Err() != nil:
		return storedManifest{}, err
	case err != nil:
		return storedManifest{}, e.invalid(err.Error())
	}
	m := storedManifest{
		digest: fetched.Digest, mediaType: info.MediaType, content: fetched.Content,
		proof: info.Explicit && fetched.MediaType == info.MediaType,
	}
	e.recent.put(repository, m)
	if !e.tryStore(repository, m, info) {
		e.metrics.Unstored.Inc()
	}
	return m, nil
}

// tryStore stores a manifest, which is good for those who wait for it whether it can be stored or not.
func (e *Engine) tryStore(repository string, m storedManifest, info manifest.Info) (stored bool) {
	err := e.storeManifest(repository, m, info)
	if err != nil && !store.IsFull(err) {
		e.log.WithError(err).WithField("digest", m.digest).Warn("Could not store a manifest")
	}
	return err == nil
}

func (e *Engine) storeManifest(repository string, m storedManifest, info manifest.Info) error {
	release, err := e.keeper.MakeRoom(int64(len(m.content)))
	if err != nil {
		return err
	}
	defer release()
	unlock := e.store.Lock(m.digest)
	defer unlock()
	e.describe(repository, m, info)
	if err := e.store.LinkManifest(repository, m.digest); err != nil {
		return err
	}
	if _, err := e.store.StatBlob(m.digest); err == nil {
		return nil
	}
	if err := e.store.PutBlob(repository, m.digest, m.content); err != nil {
		return err
	}
	return nil
}

// describe notes what a manifest of a repository is and needs.
func (e *Engine) describe(repository string, m storedManifest, info manifest.Info) {
	children := make([]digest.Digest, 0, len(info.Children))
	for _, child := range info.Children {
		children = append(children, child.Digest)
	}
	record := index.Record{Size: int64(len(m.content)), Manifest: true, MediaType: m.mediaType}
	link := index.Link{Kind: index.Manifest, Repository: repository, MediaType: m.mediaType, Proof: m.proof}
	if err := e.index.Introduce(m.digest, record, children, link); err != nil {
		e.log.WithError(err).Warn("Could not record a manifest") // Reconcile will find it.
	}
}

// recentBytes is how much memory the manifests take that were served lately.
const recentBytes = 2 << 20

// recentManifests are the manifests that were served lately, so that the many HEADs and GETs of the same few cost no
// reading and hashing, and so that a manifest that cannot be stored can be served twice. They are known by the repository
// that they were served from, which proves that it has them.
type recentManifests struct {
	mu    sync.Mutex
	limit int
	bytes int
	order *list.List // of recentManifest, the latest in front
	items map[manifestKey]*list.Element
}

type manifestKey struct {
	repository string
	digest     digest.Digest
}

type recentManifest struct {
	manifestKey
	storedManifest
}

func newRecentManifests(limit int) *recentManifests {
	return &recentManifests{limit: limit, order: list.New(), items: map[manifestKey]*list.Element{}}
}

func (r *recentManifests) get(repository string, d digest.Digest) (storedManifest, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	item, ok := r.items[manifestKey{repository, d}]
	if !ok {
		return storedManifest{}, false
	}
	r.order.MoveToFront(item)
	return item.Value.(recentManifest).storedManifest, true
}

func (r *recentManifests) put(repository string, m storedManifest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := manifestKey{repository, m.digest}
	if _, ok := r.items[key]; ok || len(m.content) > r.limit/2 {
		return
	}
	r.items[key] = r.order.PushFront(recentManifest{key, m})
	r.bytes += len(m.content)
	for r.bytes > r.limit {
		oldest := r.order.Back()
		dropped := r.order.Remove(oldest).(recentManifest)
		delete(r.items, dropped.manifestKey)
		r.bytes -= len(dropped.content)
	}
}
