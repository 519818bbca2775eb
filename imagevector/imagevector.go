// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package imagevector contains the images that the extension deploys into Shoots.
package imagevector

import (
	_ "embed"
	"fmt"

	"github.com/gardener/gardener/pkg/utils/imagevector"
)

const (
	// RegistryCacheServer is the name of the image of the cache server.
	RegistryCacheServer = "registry-cache-server"
	// RegistryCachePullSecrets is the name of the image of the controller of pull secrets.
	RegistryCachePullSecrets = "registry-cache-pull-secrets"
)

//go:embed images.yaml
var imagesYAML []byte

// ImageVector returns the images. The file in the environment variable IMAGEVECTOR_OVERWRITE, which operators write,
// overwrites them. Errors are about this file.
func ImageVector() (imagevector.ImageVector, error) {
	images, caBundle, err := imagevector.Read(imagesYAML)
	if err != nil {
		return nil, fmt.Errorf("read built-in image vector: %w", err)
	}
	images, _, err = imagevector.WithEnvOverride(images, caBundle, imagevector.OverrideEnv)
	if err != nil {
		return nil, fmt.Errorf("read image vector from the file in %s: %w", imagevector.OverrideEnv, err)
	}
	return images, nil
}
