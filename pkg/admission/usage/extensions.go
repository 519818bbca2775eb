// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package usage

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/larder-project/larder/pkg/apis/mirror"
	mirrorcodec "github.com/larder-project/larder/pkg/apis/mirror/codec"
	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/reference"
)

// Caches returns the extension registry-cache, whose caches reference credentials.
func Caches() (Extension[registry.RegistryConfig], error) {
	codec, err := codec.New()
	if err != nil {
		return Extension[registry.RegistryConfig]{}, fmt.Errorf("create codec: %w", err)
	}
	return Extension[registry.RegistryConfig]{
		Type:   registry.ExtensionType,
		Decode: codec.DecodeConfigStrict,
		References: func(config *registry.RegistryConfig, configPath *field.Path) []Reference {
			var references []Reference
			for i := range config.Caches {
				cache := &config.Caches[i]
				for _, credential := range reference.Credentials(cache, configPath.Child("caches").Index(i)) {
					if credential.Entry == "" {
						continue
					}
					references = append(references, Reference{
						Path: credential.Path,
						Key:  cache.Upstream + " " + credentials.Prefix(credential.Use.Repositories),
						Name: credential.Entry,
						Use:  credential.Use,
					})
				}
			}
			return references
		},
	}, nil
}

// Mirrors returns the extension registry-mirror, whose mirrors reference CA bundles.
func Mirrors() (Extension[mirror.MirrorConfig], error) {
	codec, err := mirrorcodec.New()
	if err != nil {
		return Extension[mirror.MirrorConfig]{}, fmt.Errorf("create codec: %w", err)
	}
	return Extension[mirror.MirrorConfig]{
		Type:   mirror.ExtensionType,
		Decode: codec.DecodeConfigStrict,
		References: func(config *mirror.MirrorConfig, configPath *field.Path) []Reference {
			var references []Reference
			for i, m := range config.Mirrors {
				for j, host := range m.Hosts {
					if name := ptr.Deref(host.CABundleSecretReferenceName, ""); name != "" {
						references = append(references, Reference{
							Path: configPath.Child("mirrors").Index(i).Child("hosts").Index(j).Child("caBundleSecretReferenceName"),
							Key:  m.Upstream + " " + host.Host,
							Name: name,
						})
					}
				}
			}
			return references
		},
	}, nil
}
