// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package install_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/api/apitesting/roundtrip"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/randfill"

	"github.com/larder-project/larder/pkg/apis/mirror"
	"github.com/larder-project/larder/pkg/apis/mirror/install"
)

// TestRoundTrip encodes random objects in every external version, decodes them and compares the results.
func TestRoundTrip(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := install.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	roundtrip.RoundTripTestForScheme(t, scheme, func(serializer.CodecFactory) []any {
		return []any{
			// Set every field that has a default.
			func(host *mirror.Host, c randfill.Continue) {
				c.FillNoCustom(host)
				host.Capabilities = append(host.Capabilities, mirror.Resolve)
			},
		}
	})
}
