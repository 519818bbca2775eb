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

// Caches returns the extension registry-cache, whose caches reference credentials, and Secrets for their connections. The
// key of a reference is the upstream with the repositories of a credential, or with the purpose.
func Caches() (Extension[registry.RegistryConfig], error) {
	codec, err := codec.New()
	if err != nil {
		return Extension[registry.RegistryConfig]{}, fmt.Errorf("create codec: %w", err)
	}
	return Extension[registry.RegistryConfig]{
		Type:   registry.ExtensionType,
		Decode: codec.DecodeConfigStrict,
		References: func(config *registry.RegistryConfig, configPath *field.Path) []Reference {
			references := make([]Reference, 0, len(config.Caches))
			for i := range config.Caches {
				references = append(references, referencesOf(&config.Caches[i], configPath.Child("caches").Index(i))...)
			}
			return references
		},
	}, nil
}

func referencesOf(cache *registry.RegistryCache, cachePath *field.Path) []Reference {
	var references []Reference
	for _, credential := range reference.Credentials(cache, cachePath) {
		if credential.Entry != "" {
			references = append(references, Reference{
				Path:    credential.Path,
				Key:     cache.Upstream + " " + credentials.Prefix(credential.Use.Repositories),
				Purpose: Credential,
				Name:    credential.Entry,
				Use:     credential.Use,
			})
		}
	}
	for _, reference := range cache.ConnectionReferences() {
		if purpose := Purpose(reference.Purpose); reference.Entry != "" {
			references = append(references, Reference{
				Path: reference.Purpose.Path(cachePath), Key: cache.Upstream + " " + string(purpose), Purpose: purpose, Name: reference.Entry,
			})
		}
	}
	return references
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
							Path:    configPath.Child("mirrors").Index(i).Child("hosts").Index(j).Child("caBundleSecretReferenceName"),
							Key:     m.Upstream + " " + host.Host,
							Purpose: CABundle,
							Name:    name,
						})
					}
				}
			}
			return references
		},
	}, nil
}
