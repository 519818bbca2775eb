// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullsecret

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larder-project/larder/pkg/cacheserver/config"
)

const (
	// AccountsKey is the key of the accounts of a cache, as [config.Accounts], in the Secret named [AccountsSecretName].
	AccountsKey = "accounts.json"

	// The Secret of an account has these keys besides the docker configuration.
	registryKey = "registry"
	caBundleKey = "ca.crt"
	usernameKey = corev1.BasicAuthUsernameKey
	passwordKey = corev1.BasicAuthPasswordKey
)

// Account describes an account of a cache, and its Secret in some namespaces.
type Account struct {
	// Cache is the name of the cache's objects.
	Cache string `json:"cache"`
	// Name is the name of the account.
	Name string `json:"name"`
	// SecretName is the name of the Secret in each namespace.
	SecretName string   `json:"secretName"`
	Namespaces []string `json:"namespaces"`
	// Repositories lists the repositories that the account may pull, each with all repositories below it; empty means
	// all.
	Repositories []string `json:"repositories,omitempty"`
	// Registry is the host and port of the cache for pods.
	Registry string `json:"registry"`
	// RotationPeriod is the age at which the password is replaced.
	RotationPeriod metav1.Duration `json:"rotationPeriod"`
}

// AccountsSecretName returns the name of the Secret with the accounts of a cache, in [Namespace].
func AccountsSecretName(cache string) string { return cache + "-accounts" }

// Username returns the user name of the account.
func (a Account) Username() string { return config.Account{Name: a.Name}.Username() }

// Content returns the content of the account's Secret. The docker configuration is for the cache alone: with the name
// of the upstream in it, clients would also send the password there.
func (a Account) Content(password, caBundle string) map[string][]byte {
	username := a.Username()
	return map[string][]byte{
		corev1.DockerConfigJsonKey: Auths{a.Registry: []byte(username + ":" + password)}.Encode(),
		registryKey:                []byte(a.Registry),
		caBundleKey:                []byte(caBundle),
		usernameKey:                []byte(username),
		passwordKey:                []byte(password),
	}
}

// DataKeys lists the keys of the Secrets that the controller keeps.
func DataKeys() []string {
	return []string{corev1.DockerConfigJsonKey, registryKey, caBundleKey, usernameKey, passwordKey}
}

// Accepted returns the account as the server of the cache knows it.
func (a Account) Accepted(passwords []config.PasswordHash) config.Account {
	accepted := config.Account{Name: a.Name, Repositories: a.Repositories, Passwords: passwords}
	if len(a.Repositories) == 0 {
		accepted.Repositories = []string{config.AllRepositories}
	}
	return accepted
}
