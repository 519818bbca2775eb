// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/credentials"
)

// CredentialsSecret returns the Secret with all credential files for the upstream. Its name is stable, so that a server
// picks up changes without a new pod.
func CredentialsSecret(values Values) *corev1.Secret {
	files := map[string][]byte{}
	if values.Credential != nil {
		files = credentials.Files("", *values.Credential, values.PreviousCredential)
	}
	for _, credential := range values.RepositoryCredentials {
		if credential.Credential != nil {
			maps.Copy(files, credentials.Files(credentials.Prefix(credential.Repositories), *credential.Credential, credential.Previous))
		}
	}
	return &corev1.Secret{
		ObjectMeta: values.objectMeta(CredentialsSecretName(values.Name())),
		Type:       corev1.SecretTypeOpaque,
		Data:       files,
	}
}

// IsCredentialsSecret reports whether an object of a cache is its CredentialsSecret.
func IsCredentialsSecret(object client.Object) bool {
	_, ok := object.(*corev1.Secret)
	return ok && object.GetName() == CredentialsSecretName(NameOf(object))
}

// CredentialsSecretName returns the name of the Secret with the credential of a cache.
func CredentialsSecretName(cache string) string {
	return cache + "-credentials"
}
