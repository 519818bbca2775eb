// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"context"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
)

// mislabelling is an upstream whose headers tell a digest that it has nothing for.
type mislabelling struct {
	*slowRegistry
	reason remote.Reason
}

// Resolve implements remote.Registry.
func (mislabelling) Resolve(context.Context, string, string) (digest.Digest, error) {
	return digest.FromString("wrong"), nil
}

// FetchManifest implements remote.Registry.
func (r mislabelling) FetchManifest(ctx context.Context, repository, reference string) (remote.Manifest, error) {
	if reference == digest.FromString("wrong").String() {
		return remote.Manifest{}, &remote.Error{Reason: r.reason}
	}
	return r.slowRegistry.FetchManifest(ctx, repository, reference)
}

func TestATagWhoseDigestIsToldWrongIsFollowedByTag(t *testing.T) {
	for _, reason := range []remote.Reason{remote.NotFound, remote.Invalid} {
		var odd mislabelling
		change := func(o *Options) {
			odd = mislabelling{o.Upstream.(*slowRegistry), reason}
			o.Upstream = odd
		}
		inBubble(t, change, func(b bubble) {
			b.upstream.push("first")
			resolve(b)
			moved := b.upstream.push("second")
			for range 2 {
				b.Expect(b.engine.resolve(b.t.Context(), "library/app", "v1")).To(Equal(moved))
			}
			cached, _ := b.engine.cachedTag("library/app", "v1")
			b.Expect(cached).To(Equal(moved))
			b.Expect(b.engine.answers.tags).To(BeEmpty())
		})
	}
}
