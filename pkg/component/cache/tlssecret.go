// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TLSSecret returns the Secret with the server certificate of a cache.
func TLSSecret(values Values) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: values.objectMeta(values.tlsSecretName()),
		Type:       corev1.SecretTypeTLS,
		Data: map[string][]byte{
			corev1.TLSCertKey:       values.Certificate.Certificate,
			corev1.TLSPrivateKeyKey: values.Certificate.Key,
		},
	}
}

// IsTLSSecret reports whether an object of a cache is its TLSSecret.
func IsTLSSecret(object client.Object) bool {
	secret, ok := object.(*corev1.Secret)
	return ok && secret.Type == corev1.SecretTypeTLS
}

func (v Values) tlsSecretName() string {
	return v.Name() + "-tls"
}
