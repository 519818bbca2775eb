// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package codec turns the raw provider configuration of a registry-mirror
// extension into internal types.
package codec

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/larder-project/larder/pkg/apis/mirror"
	"github.com/larder-project/larder/pkg/apis/mirror/install"
	"github.com/larder-project/larder/pkg/apis/mirror/v1alpha1"
	"github.com/larder-project/larder/pkg/apis/provider"
)

// Codec decodes the types of the API group. Only registered external versions
// are read; what is decoded has its defaults.
type Codec struct {
	decoder *provider.Decoder
}

// New returns a codec.
func New() (*Codec, error) {
	scheme := runtime.NewScheme()
	if err := install.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("registering the API group %s: %w", mirror.GroupName, err)
	}
	return &Codec{decoder: provider.NewDecoder(scheme, v1alpha1.SchemeGroupVersion, nil)}, nil
}

// DecodeConfig decodes what admission let pass. Fields that this version does
// not know are ignored.
func (c *Codec) DecodeConfig(raw *runtime.RawExtension) (*mirror.MirrorConfig, error) {
	config := &mirror.MirrorConfig{}
	return config, c.decoder.Decode(raw, config)
}
