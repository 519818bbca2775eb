// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package tags

import (
	"slices"
	"strings"
	"testing"
)

func TestAfter(t *testing.T) {
	byAge := []string{"v1", "v9", "v5", "v3"}
	for last, want := range map[string]string{"": "v1 v9 v5 v3", "v9": "v5 v3", "v3": "", "v4": "v9 v5"} {
		if got := strings.Join(after(last, slices.Clone(byAge)), " "); got != want {
			t.Errorf("after %q: got %q, want %q", last, got, want)
		}
	}
}

func FuzzParseTags(f *testing.F) {
	f.Add([]byte(`{"name":"a","tags":["v1",null,""]}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		tags, err := parseTags(document)
		if err != nil {
			return
		}
		for _, tag := range tags {
			if len(tag) == 0 || len(tag) > maxTagBytes {
				t.Errorf("tag %q", tag)
			}
		}
	})
}
