// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/credentials"
)

const (
	connectionVolume    = "connection"
	connectionDirectory = configDirectory + "/connection"

	caBundleKey      = "bundle.crt"
	proxyUsernameKey = "proxy-username"
	proxyPasswordKey = "proxy-password"
)

// ConnectionSecret returns the Secret with the files for the connections to the upstream. Its name and its keys are
// stable, so that a server picks up changes without a new pod.
func ConnectionSecret(values Values) *corev1.Secret {
	data := map[string][]byte{}
	connection := values.Connection
	if len(connection.CABundle) > 0 {
		data[caBundleKey] = connection.CABundle
	}
	if certificate := connection.ClientCertificate; certificate != nil {
		data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey] = certificate.Certificate, certificate.Key
	}
	if credential := connection.ProxyCredential; credential != nil {
		data[proxyUsernameKey], data[proxyPasswordKey] = []byte(credential.Username), []byte(credential.Password)
	}
	return &corev1.Secret{
		ObjectMeta: values.objectMeta(values.connectionSecretName()),
		Type:       corev1.SecretTypeOpaque,
		Data:       data,
	}
}

// ParseConnectionSecret is the inverse of [ConnectionSecret].
func ParseConnectionSecret(secret *corev1.Secret) Connection {
	connection := Connection{CABundle: secret.Data[caBundleKey]}
	if certificate, ok := secret.Data[corev1.TLSCertKey]; ok {
		connection.ClientCertificate = &Certificate{Certificate: certificate, Key: secret.Data[corev1.TLSPrivateKeyKey]}
	}
	if username, ok := secret.Data[proxyUsernameKey]; ok {
		connection.ProxyCredential = &credentials.Credential{Username: string(username), Password: string(secret.Data[proxyPasswordKey])}
	}
	return connection
}

// IsConnectionSecret reports whether an object of a cache is its ConnectionSecret.
func IsConnectionSecret(object client.Object) bool {
	_, ok := object.(*corev1.Secret)
	return ok && object.GetName() == connectionSecretName(NameOf(object))
}

func (v Values) connectionSecretName() string {
	return connectionSecretName(v.Name())
}

func connectionSecretName(cache string) string {
	return cache + "-connection"
}

func (c Connection) needsSecret() bool {
	return len(c.CABundle) > 0 || c.ClientCertificate != nil || c.ProxyCredential != nil
}

// files returns the paths of the files as the server sees them.
func (c Connection) files() config.Connection {
	path := func(key string) string { return connectionDirectory + "/" + key }
	var files config.Connection
	if len(c.CABundle) > 0 {
		files.CABundleFile = path(caBundleKey)
	}
	if c.ClientCertificate != nil {
		files.ClientCertificate = &config.TLSFiles{CertificateFile: path(corev1.TLSCertKey), KeyFile: path(corev1.TLSPrivateKeyKey)}
	}
	if c.ProxyCredential != nil {
		files.ProxyUsernameFile, files.ProxyPasswordFile = path(proxyUsernameKey), path(proxyPasswordKey)
	}
	return files
}
