// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package validation_test

import (
	"regexp"
	"testing"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/validation"
)

var (
	harmlessURL      = regexp.MustCompile(`^https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[1-9][0-9]{0,4})?$`)
	harmlessUpstream = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[1-9][0-9]{0,4})?$`)
)

// FuzzHosts checks that accepted values consist of a scheme, a host and a port: they become names and contents of files
// on nodes.
func FuzzHosts(f *testing.F) {
	for _, seed := range []string{"docker.io", "https://docker.io", "http://[::1]:5000", "https://a?", "https://a#", "https://u@a", "https://a/..", "https://a\n", "a:1", "..", `https://a"b`, "https://%41"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if errs := validation.ValidateRegistryConfig(configOf(registry.RegistryCache{Upstream: "docker.io", RemoteURL: &value}), fldPath); len(errs) == 0 && !harmlessURL.MatchString(value) {
			t.Errorf("remoteURL %q is accepted", value)
		}
		if errs := validation.ValidateRegistryConfig(configOf(registry.RegistryCache{Upstream: value}), fldPath); len(errs) == 0 && !harmlessUpstream.MatchString(value) {
			t.Errorf("upstream %q is accepted", value)
		}
	})
}
