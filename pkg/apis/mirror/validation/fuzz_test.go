// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package validation_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/larder-project/larder/pkg/apis/mirror"
	"github.com/larder-project/larder/pkg/apis/mirror/codec"
	"github.com/larder-project/larder/pkg/apis/mirror/validation"
)

var harmlessURL = regexp.MustCompile(`^https?://([a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?(/[A-Za-z0-9._~+:-]+)*/?$`)

// FuzzHosts checks that accepted hosts consist of a scheme, a host, a port and a plain path: they become names and
// contents of files on nodes.
func FuzzHosts(f *testing.F) {
	for _, seed := range []string{"https://a", "http://[::1]:5000/v2/", "https://a?", "https://a/#", "https://u@a", "https://a/..", "https://a\n", `https://a/"b`, "https://a/%41", "https://[::ffff:1.2.3.4]"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		errs := validation.ValidateMirrorConfig(configOf(newMirror("docker.io", newHost(value))), fldPath)
		if len(errs) > 0 {
			return
		}
		if !harmlessURL.MatchString(value) || slices.Contains(strings.Split(value, "/"), "..") || slices.Contains(strings.Split(value, "/"), ".") {
			t.Errorf("host %q is accepted", value)
		}
	})
}

// FuzzMirrorConfig goes from the bytes of an owner to validated hosts. It fails if that takes long, or if an unchanged
// configuration is refused, whatever is wrong with it.
func FuzzMirrorConfig(f *testing.F) {
	const start = `{"apiVersion":"mirror.extensions.gardener.cloud/v1alpha1","kind":"MirrorConfig","mirrors":[`
	for _, seed := range []string{
		``, `{}`, `{"upstream":"docker.io","hosts":[{"host":"https://a/b/","capabilities":["pull","resolve"],"caBundleSecretReferenceName":"ca","overridePath":true}]}`,
		`{"upstream":1e999999999}`, `{"upstream":"a","upstream":"b"}`, `{"hosts":[{"host":"https://a"},{"host":"https://a:443"}]}`,
		`{"upstream":"a","hosts":[{"host":"a"},{"host":"a","capabilities":["x"]}]},{"upstream":"a","hosts":[{"host":"b"}]}`,
	} {
		f.Add([]byte(start + seed + `]}`))
	}
	c, err := codec.New()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		began := time.Now()
		config, err := c.DecodeConfigStrict(&runtime.RawExtension{Raw: raw})
		if err == nil {
			for _, old := range []*mirror.MirrorConfig{{}, config} {
				errs := validation.ValidateMirrorConfigUpdate(config, old, fldPath)
				if old == config && len(config.Mirrors) > 0 && len(errs) > 0 {
					t.Errorf("an unchanged configuration is refused: %v", errs)
				}
			}
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it takes %s", took)
		}
	})
}
