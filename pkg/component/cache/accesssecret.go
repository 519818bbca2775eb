// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"crypto/rand"
	"fmt"
	"regexp"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/pullsecret"
)

const (
	accessVolume      = "access"
	accessDirectory   = configDirectory + "/access"
	accountsVolume    = "accounts"
	accountsDirectory = configDirectory + "/accounts"

	debugTokenKey = "debug-token"
	clientCAsKey  = "client-ca.crt"
)

// AccessSecret returns the Secret with the files of a cache that restricts access. Its name and its keys are stable, so
// that a server picks up changes without a new pod.
func AccessSecret(values Values) *corev1.Secret {
	data := map[string][]byte{debugTokenKey: []byte(values.Access.DebugToken)}
	if values.Cache.AccessMode() == registry.AccessNodes {
		data[clientCAsKey] = values.Access.ClientCAs
	}
	return &corev1.Secret{
		ObjectMeta: values.objectMeta(values.accessSecretName()),
		Type:       corev1.SecretTypeOpaque,
		Data:       data,
	}
}

// WithClientCAs returns an object of a cache with other authorities of nodes if it is an AccessSecret that has some,
// and otherwise as it is.
func WithClientCAs(object client.Object, clientCAs []byte) client.Object {
	secret, ok := object.(*corev1.Secret)
	if !ok || secret.Name != AccessSecretName(NameOf(secret)) || secret.Data[clientCAsKey] == nil || len(clientCAs) == 0 {
		return object
	}
	secret = secret.DeepCopy()
	secret.Data[clientCAsKey] = clientCAs
	return secret
}

// AccessModeOf returns the mode of access to a cache that has the given objects.
func AccessModeOf(objects []client.Object) registry.AccessMode {
	for _, object := range objects {
		secret, ok := object.(*corev1.Secret)
		if !ok || secret.Name != AccessSecretName(NameOf(secret)) {
			continue
		}
		if secret.Data[clientCAsKey] != nil {
			return registry.AccessNodes
		}
		return registry.AccessPullSecrets
	}
	return registry.AccessCluster
}

// AccessOf returns the access to a cache that has the given objects, with the durations that are configured for it.
func AccessOf(objects []client.Object) (registry.Access, error) {
	access := registry.Access{Mode: AccessModeOf(objects)}
	for _, object := range objects {
		secret, ok := object.(*corev1.Secret)
		if !ok || secret.Name != configSecretName(NameOf(secret)) {
			continue
		}
		options, err := config.ParseAccess(secret.Data[configKey])
		if err != nil {
			return registry.Access{}, fmt.Errorf("read Secret %s: %w", secret.Name, err)
		}
		if options != nil {
			access.GrantDuration, access.OutageGrantDuration = apiDuration(options.GrantDuration), apiDuration(options.OutageGrantDuration)
		}
	}
	return access, nil
}

func apiDuration(duration *time.Duration) *metav1.Duration {
	if duration == nil {
		return nil
	}
	return &metav1.Duration{Duration: *duration}
}

// HasAccounts reports whether a cache that has the given objects reads accounts.
func HasAccounts(objects []client.Object) bool {
	return slices.ContainsFunc(objects, func(object client.Object) bool {
		statefulSet, ok := object.(*appsv1.StatefulSet)
		return ok && slices.ContainsFunc(statefulSet.Spec.Template.Spec.Volumes, func(volume corev1.Volume) bool { return volume.Name == accountsVolume })
	})
}

func (v Values) accessSecretName() string {
	return AccessSecretName(v.Name())
}

// AccessSecretName returns the name of the Secret with the files of a cache that restricts access.
func AccessSecretName(cache string) string {
	return cache + "-access"
}

// DebugToken returns the token in an AccessSecret, and false if there is none that this extension could have created:
// the owner of the Shoot can change the Secret.
func DebugToken(secret *corev1.Secret) (string, bool) {
	token := string(secret.Data[debugTokenKey])
	return token, debugTokens.MatchString(token)
}

// NewDebugToken returns a new token.
func NewDebugToken() string { return rand.Text() + rand.Text() }

// debugTokens matches what NewDebugToken returns.
var debugTokens = regexp.MustCompile(`^[A-Z2-7]{52}$`)

// RequiresDebugToken reports whether the server in a pod requires the token.
func RequiresDebugToken(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(volume corev1.Volume) bool { return volume.Name == accessVolume })
}

// RestrictsAccess reports whether the cache does not serve everything to everyone.
func (v Values) RestrictsAccess() bool {
	return v.Cache.AccessMode() != registry.AccessCluster
}

// hasAccounts reports whether the cache has accounts for its clients. The first one restarts the server: with an option
// that is always set, a server for nodes would challenge each client for a password, and nodes without their
// certificate would present those of pods.
func (v Values) hasAccounts() bool {
	return v.RestrictsAccess() && len(v.Cache.Accounts) > 0
}

// accessOptions returns the restriction of access as the server sees it, nil for none.
func (v Values) accessOptions() *config.Access {
	if !v.RestrictsAccess() {
		return nil
	}
	options := &config.Access{Mode: string(v.Cache.AccessMode()), DebugTokenFile: accessDirectory + "/" + debugTokenKey}
	switch v.Cache.AccessMode() {
	case registry.AccessPullSecrets:
		if duration := v.Cache.Access.GrantDuration; duration != nil {
			options.GrantDuration = &duration.Duration
		}
		if duration := v.Cache.Access.OutageGrantDuration; duration != nil {
			options.OutageGrantDuration = &duration.Duration
		}
	case registry.AccessNodes:
		options.ClientCAFile = accessDirectory + "/" + clientCAsKey
	}
	if v.hasAccounts() {
		options.AccountsFile = accountsDirectory + "/" + pullsecret.AccountsKey
	}
	return options
}

// accountsSecretVolume returns the volume with the accounts of a cache. The controller in the Shoot creates its Secret,
// maybe after the pod; the cache starts without it. The pod sees only the hashes of the passwords.
func accountsSecretVolume(values Values) corev1.Volume {
	volume := secretVolume(accountsVolume, pullsecret.AccountsSecretName(values.Name()))
	volume.Secret.Optional = new(true)
	volume.Secret.Items = []corev1.KeyToPath{{Key: pullsecret.AccountsKey, Path: pullsecret.AccountsKey}}
	return volume
}
