// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package codec converts the raw providerConfig of the registry-mirror extension into internal types.
package codec

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/larder-project/larder/pkg/apis/mirror"
	"github.com/larder-project/larder/pkg/apis/mirror/install"
	"github.com/larder-project/larder/pkg/apis/mirror/v1alpha1"
	"github.com/larder-project/larder/pkg/apis/provider"
)

// Codec decodes the types of the API group. It accepts only registered external versions and sets the defaults of
// decoded objects.
type Codec struct {
	decoder *provider.Decoder
}

// New returns a codec.
func New() (*Codec, error) {
	scheme := runtime.NewScheme()
	if err := install.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("register API group %s: %w", mirror.GroupName, err)
	}
	return &Codec{decoder: provider.NewDecoder(scheme, v1alpha1.SchemeGroupVersion, nil)}, nil
}

// DecodeConfigStrict decodes the configuration of an owner. It returns an error for unknown and duplicate fields, but
// still decodes the others unless there is another error.
func (c *Codec) DecodeConfigStrict(raw *runtime.RawExtension) (*mirror.MirrorConfig, error) {
	config := &mirror.MirrorConfig{}
	return config, c.decoder.DecodeStrict(raw, config)
}

// DecodeConfig decodes an admitted configuration. It ignores unknown fields.
func (c *Codec) DecodeConfig(raw *runtime.RawExtension) (*mirror.MirrorConfig, error) {
	config := &mirror.MirrorConfig{}
	return config, c.decoder.Decode(raw, config)
}
