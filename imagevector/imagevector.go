// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package imagevector names the images that the extension deploys into Shoots.
package imagevector

import (
	_ "embed"
	"fmt"

	"github.com/gardener/gardener/pkg/utils/imagevector"
)

// RegistryCacheServer is the name of the image of the cache server.
const RegistryCacheServer = "registry-cache-server"

//go:embed images.yaml
var imagesYAML []byte

// ImageVector returns the images, overwritten by those in the file that the
// environment variable IMAGEVECTOR_OVERWRITE names, if it names one. The only
// error to expect is one about that file: operators write it.
func ImageVector() (imagevector.ImageVector, error) {
	images, caBundle, err := imagevector.Read(imagesYAML)
	if err != nil {
		return nil, fmt.Errorf("could not read the built-in image vector: %w", err)
	}
	images, _, err = imagevector.WithEnvOverride(images, caBundle, imagevector.OverrideEnv)
	if err != nil {
		return nil, fmt.Errorf("could not read the image vector in the file that %s names: %w", imagevector.OverrideEnv, err)
	}
	return images, nil
}
