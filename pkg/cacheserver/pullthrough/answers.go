// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
)

// maxAnswers bounds the answers that are not noted yet. Those stay that lead to a manifest that cannot be had.
const maxAnswers = 4096

// tagAnswers are where tags lead as the upstream said last, until that is noted. To follow one tag can take longer than to
// follow its next answer, which must not be undone then.
type tagAnswers struct {
	// locks are held while an answer is noted, so that the next one of the same tag is noted after it.
	locks store.Locks
	mu    sync.Mutex
	tags  map[[2]string]digest.Digest
}

func (a *tagAnswers) put(repository, tag string, d digest.Digest) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := [2]string{repository, tag}
	if _, ok := a.tags[key]; !ok && len(a.tags) >= maxAnswers {
		clear(a.tags) // Those tags are asked for again.
	}
	a.tags[key] = d
}

// replace corrects an answer, if it is still the last one of its tag.
func (a *tagAnswers) replace(repository, tag string, told, found digest.Digest) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if key := [2]string{repository, tag}; a.tags[key] == told {
		a.tags[key] = found
	}
}

// take reports whether an answer is the last one of its tag, once.
func (a *tagAnswers) take(repository, tag string, d digest.Digest) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := [2]string{repository, tag}
	if a.tags[key] != d {
		return false
	}
	delete(a.tags, key)
	return true
}
