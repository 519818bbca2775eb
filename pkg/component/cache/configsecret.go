// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

const configKey = "config.yml"

// ConfigSecret returns the Secret with the configuration of the cache server.
func ConfigSecret(values Values) (*corev1.Secret, error) {
	rendered, err := values.config().Marshal()
	if err != nil {
		return nil, fmt.Errorf("render configuration of cache %s: %w", values.Cache.Upstream, err)
	}
	return &corev1.Secret{
		ObjectMeta: values.objectMeta(values.configSecretName()),
		Type:       corev1.SecretTypeOpaque,
		Data:       map[string][]byte{configKey: rendered},
	}, nil
}

func (v Values) configSecretName() string {
	return configSecretName(v.Name())
}

func configSecretName(cache string) string {
	return cache + "-config"
}
