// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package validation_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/validation"
)

var (
	harmlessURL = regexp.MustCompile(`^https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[1-9][0-9]{0,4})?$`)
	// harmlessEntry has no comma or blank, which would separate entries of NO_PROXY.
	harmlessEntry    = regexp.MustCompile(`^[a-z0-9.:/\[\]-]+$`)
	harmlessUpstream = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[1-9][0-9]{0,4})?$`)
)

// FuzzHosts checks that accepted values consist of a scheme, a host and a port: they become names and contents of files
// on nodes.
func FuzzHosts(f *testing.F) {
	for _, seed := range []string{"docker.io", "https://docker.io", "http://[::1]:5000", "https://a?", "https://a#", "https://u@a", "https://a/..", "https://a\n", "a:1", "..", "10.0.0.0/8", ".a", "a,b", "[::1]:80", "fe80::1%a,b", "::ffff:1.2.3.4/120", `https://a"b`, "https://%41"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if errs := validation.ValidateRegistryConfig(configOf(registry.RegistryCache{Upstream: "docker.io", RemoteURL: &value}), fldPath); len(errs) == 0 && !harmlessURL.MatchString(value) {
			t.Errorf("remoteURL %q is accepted", value)
		}
		if errs := validation.ValidateRegistryConfig(configOf(registry.RegistryCache{Upstream: value}), fldPath); len(errs) == 0 && !harmlessUpstream.MatchString(value) {
			t.Errorf("upstream %q is accepted", value)
		}
		if errs := validation.ValidateRegistryConfig(configOf(registry.RegistryCache{Upstream: "docker.io", AllowedRealms: []string{value}}), fldPath); len(errs) == 0 && !harmlessUpstream.MatchString(value) {
			t.Errorf("realm %q is accepted", value)
		}
		proxy := &registry.Proxy{HTTPProxy: new("http://proxy"), NoProxy: []string{value}}
		if errs := validation.ValidateRegistryConfig(configOf(registry.RegistryCache{Upstream: "docker.io", Proxy: proxy}), fldPath); len(errs) == 0 && !harmlessEntry.MatchString(strings.ToLower(value)) {
			t.Errorf("entry %q of noProxy is accepted", value)
		}
	})
}
