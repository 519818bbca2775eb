// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"strings"
	"testing"

	"github.com/larder-project/larder/pkg/credentials"
)

func FuzzParseDockerConfig(f *testing.F) {
	f.Add([]byte(`{"auths":{"https://example.com/v1/":{"auth":"YTpi"}}}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		found := map[string]credentials.Credential{}
		if parseDockerConfig(content, "example.com", found) != nil {
			return
		}
		for scope, c := range found {
			if c.Validate() != nil || strings.HasPrefix(scope, "/") || strings.HasSuffix(scope, "/") {
				t.Errorf("scope %q", scope)
			}
		}
	})
}
