// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
)

func TestAfter(t *testing.T) {
	byAge := []string{"v1", "v9", "v5", "v3"}
	for last, want := range map[string]string{"": "v1 v9 v5 v3", "v9": "v5 v3", "v3": "", "v4": "v9 v5"} {
		if got := strings.Join(after(last, slices.Clone(byAge)), " "); got != want {
			t.Errorf("after %q come %q, not %q", last, got, want)
		}
	}
}

func FuzzParseTags(f *testing.F) {
	f.Add([]byte(`{"name":"a","tags":["v1",null,""]}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		tags, err := new(Engine).parseTags(remote.Document{Content: content})
		if err != nil {
			return
		}
		for _, tag := range tags {
			if len(tag) == 0 || len(tag) > 128 {
				t.Errorf("tag %q", tag)
			}
		}
	})
}

func FuzzReferrers(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"artifactType":"a"},null]}`), "a")
	f.Fuzz(func(t *testing.T, content []byte, artifactType string) {
		list, err := new(Engine).parseReferrers(remote.Document{Content: content})
		if err != nil {
			return
		}
		encoded, err := json.Marshal(list)
		if err != nil {
			t.Fatalf("what was parsed cannot be passed on: %v", err)
		}
		if _, err := new(Engine).parseReferrers(remote.Document{Content: ofType(encoded, artifactType)}); err != nil {
			t.Errorf("what is passed on is no list: %v", err)
		}
	})
}

func FuzzReferrersPath(f *testing.F) {
	f.Add("/v2/library/app/referrers/" + digest.FromString("x").String())
	f.Fuzz(func(t *testing.T, path string) {
		r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: path}}
		name, d, ok := referrersPath(API{}, r)
		if ok && (name == "" || d.Validate() != nil) {
			t.Errorf("%q is %q of %q", path, d, name)
		}
	})
}
