// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstreamsim

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	imagev1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// store holds the repositories of a registry.
type store struct {
	mu           sync.RWMutex
	repositories map[string]*repository
}

type repository struct {
	manifests map[digest.Digest]Content
	blobs     map[digest.Digest]Content
	tags      map[string]digest.Digest
}

func (s *store) change(name string, f func(*repository)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.repositories == nil {
		s.repositories = map[string]*repository{}
	}
	repo := s.repositories[name]
	if repo == nil {
		repo = &repository{
			manifests: map[digest.Digest]Content{},
			blobs:     map[digest.Digest]Content{},
			tags:      map[string]digest.Digest{},
		}
		s.repositories[name] = repo
	}
	f(repo)
}

func (s *store) exists(name string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.repositories[name] != nil
}

// manifest returns a manifest by tag or digest.
func (s *store) manifest(name, reference string) (Content, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	repo := s.repositories[name]
	if repo == nil {
		return Content{}, false
	}
	dgst, isTag := repo.tags[reference]
	if !isTag {
		dgst = digest.Digest(reference)
	}
	content, ok := repo.manifests[dgst]
	return content, ok
}

func (s *store) blob(name, reference string) (Content, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	repo := s.repositories[name]
	if repo == nil {
		return Content{}, false
	}
	content, ok := repo.blobs[digest.Digest(reference)]
	return content, ok
}

// anyBlob returns a blob of one of the repositories that a client may use.
func (s *store) anyBlob(reference string, mayUse func(repository string) bool) (Content, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for name, repo := range s.repositories {
		if content, ok := repo.blobs[digest.Digest(reference)]; ok && mayUse(name) {
			return content, true
		}
	}
	return Content{}, false
}

func (s *store) tagList(name string) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	tags := make([]string, 0, len(s.repositories[name].tags))
	for tag := range s.repositories[name].tags {
		tags = append(tags, tag)
	}
	slices.Sort(tags)
	return tags
}

// referrers returns the manifests that refer to a subject, sorted by digest.
func (s *store) referrers(name, subject, artifactType string) []imagev1.Descriptor {
	s.mu.RLock()
	defer s.mu.RUnlock()
	found := []imagev1.Descriptor{}
	for _, content := range s.repositories[name].manifests {
		var manifest imagev1.Manifest
		if json.Unmarshal(content.Data, &manifest) != nil || manifest.Subject == nil || string(manifest.Subject.Digest) != subject {
			continue
		}
		if artifactType != "" && manifest.ArtifactType != artifactType {
			continue
		}
		descriptor := content.Descriptor()
		descriptor.ArtifactType, descriptor.Annotations = manifest.ArtifactType, manifest.Annotations
		found = append(found, descriptor)
	}
	slices.SortFunc(found, func(a, b imagev1.Descriptor) int {
		return strings.Compare(string(a.Digest), string(b.Digest))
	})
	return found
}
