// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"testing"

	"github.com/opencontainers/go-digest"
)

func FuzzParseTags(f *testing.F) {
	f.Add([]byte(`{"name":"a","tags":["v1",null,""]}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		tags, err := parseTags(content)
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

func FuzzReferrersPath(f *testing.F) {
	f.Add("/v2/library/app/referrers/" + digest.FromString("x").String())
	f.Fuzz(func(t *testing.T, path string) {
		name, d, ok := referrersPath(path)
		if ok && (name == "" || d.Validate() != nil) {
			t.Errorf("%q is %q of %q", path, d, name)
		}
	})
}
