// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/controller/credentialstate"
	"github.com/larder-project/larder/pkg/credentials"
)

// maxCredential bounds the memory for a credential, in bytes. Running caches keep one that is longer than
// ownersecret.MaxLength.
const maxCredential = 64 << 10

// observed is the state of the caches that decides, with the wishes of their owner, what is deployed.
type observed struct {
	// addresses are the cluster IPs of the Services, by name.
	addresses map[string]net.IP
	// credentials are deployed in the Shoot, by the names of the caches and the prefixes of their files.
	credentials map[string]map[string]credentialstate.Deployed
	// claims are the volume claims in the Shoot, by name.
	claims map[string]*corev1.PersistentVolumeClaim
	// debugTokens are those of the caches that restrict access, by the names of the caches.
	debugTokens map[string]string
	// access is the deployed access to the caches that are to serve only nodes, by the names of the caches.
	access map[string]registry.Access
	// status is the provider status.
	status providerStatus
}

// providerStatus is the provider status of the Extension.
type providerStatus struct {
	// caches are the statuses of the caches, by upstream.
	caches map[string]registry.RegistryCacheStatus
	// nodeCertificate is true if the nodes have a client certificate.
	nodeCertificate bool
}

// observe reads the state of the caches, each object by name: the owner controls the length of lists.
func (a *Actuator) observe(ctx context.Context, shoot client.Client, ex *extensionsv1alpha1.Extension, caches []deployment) (observed, error) {
	found := observed{
		credentials: map[string]map[string]credentialstate.Deployed{}, claims: map[string]*corev1.PersistentVolumeClaim{}, debugTokens: map[string]string{},
	}
	var err error
	if found.addresses, err = serviceAddresses(ctx, shoot, caches); err != nil {
		return observed{}, err
	}
	if _, found.status, err = a.readStatus(ctx, ex); err != nil {
		return observed{}, err
	}
	for _, cache := range caches {
		if cache.Credential == nil && len(cache.RepositoryCredentials) == 0 {
			continue
		}
		if found.credentials[cache.Name()], err = deployedCredentials(ctx, shoot, cache); err != nil {
			return observed{}, err
		}
	}
	if found.access, err = a.deployedAccess(ctx, ex.Namespace, changeable(caches)); err != nil {
		return observed{}, err
	}
	for _, cache := range changeable(caches) {
		if found.debugTokens[cache.Name()], err = deployedDebugToken(ctx, shoot, cache); err != nil {
			return observed{}, err
		}
		for ordinal := range component.MaxReplicas {
			name := component.ClaimName(cache.Name(), ordinal)
			if found.claims[name], err = readClaim(ctx, shoot, name); err != nil {
				return observed{}, err
			}
		}
	}
	return found, nil
}

// serviceAddresses returns the cluster IP of each cache's Service, by the name of the Service.
func serviceAddresses(ctx context.Context, shoot client.Client, caches []deployment) (map[string]net.IP, error) {
	found := make(map[string]net.IP, len(caches))
	for _, cache := range caches {
		name, service := cache.ServiceName(), &corev1.Service{}
		if err := shoot.Get(ctx, client.ObjectKey{Namespace: component.Namespace, Name: name}, service); client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("read Service %s in the Shoot: %w", name, err)
		}
		if found[name] = net.ParseIP(service.Spec.ClusterIP); found[name] == nil {
			return nil, fmt.Errorf("cache %s: Service %s has no cluster IP yet", cache.Cache.Upstream, name)
		}
	}
	return found, nil
}

// readStatus returns the Extension as it is now, and its provider status.
func (a *Actuator) readStatus(ctx context.Context, ex *extensionsv1alpha1.Extension) (*extensionsv1alpha1.Extension, providerStatus, error) {
	present := &extensionsv1alpha1.Extension{}
	if err := a.Client.Get(ctx, client.ObjectKeyFromObject(ex), present); err != nil {
		return nil, providerStatus{}, fmt.Errorf("read provider status: %w", err)
	}
	status, err := a.Codec.DecodeStatus(present.Status.ProviderStatus)
	if errors.Is(err, codec.ErrMissing) {
		return present, providerStatus{}, nil
	}
	if err != nil {
		return nil, providerStatus{}, fmt.Errorf("decode provider status: %w", err)
	}
	found := providerStatus{caches: make(map[string]registry.RegistryCacheStatus, len(status.Caches)), nodeCertificate: status.NodeCertificateSecretName != nil}
	for _, cache := range status.Caches {
		found.caches[cache.Upstream] = cache
	}
	return present, found, nil
}

// deployedCredentials returns the credentials that are deployed for a cache, by the prefixes of their files.
func deployedCredentials(ctx context.Context, shoot client.Client, cache deployment) (map[string]credentialstate.Deployed, error) {
	secret := &corev1.Secret{}
	name := component.CredentialsSecretName(cache.Name())
	if err := shoot.Get(ctx, client.ObjectKey{Namespace: component.Namespace, Name: name}, secret); client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("read Secret %s in the Shoot: %w", name, err)
	}
	deployed := map[string]credentialstate.Deployed{"": parseDeployed("", secret.Data)}
	for _, credential := range cache.RepositoryCredentials {
		prefix := credentials.Prefix(credential.Repositories)
		deployed[prefix] = parseDeployed(prefix, secret.Data)
	}
	return deployed, nil
}

// deployedDebugToken returns the debug token of a cache that restricts access, a new one if none is deployed.
func deployedDebugToken(ctx context.Context, shoot client.Client, cache deployment) (string, error) {
	if !cache.RestrictsAccess() {
		return "", nil
	}
	secret := &corev1.Secret{}
	name := component.AccessSecretName(cache.Name())
	if err := shoot.Get(ctx, client.ObjectKey{Namespace: component.Namespace, Name: name}, secret); client.IgnoreNotFound(err) != nil {
		return "", fmt.Errorf("read Secret %s in the Shoot: %w", name, err)
	}
	if token, ok := component.DebugToken(secret); ok {
		return token, nil
	}
	return component.NewDebugToken(), nil
}

// parseDeployed drops credentials that this controller cannot have deployed: the owner of the Shoot can change the
// Secret, and what it holds goes into the provider status and back into the Shoot.
func parseDeployed(prefix string, files map[string][]byte) credentialstate.Deployed {
	wanted, previous := credentials.FromFiles(prefix, files)
	if wanted == nil || !isPlausible(*wanted) {
		return credentialstate.Deployed{}
	}
	if previous != nil && !isPlausible(*previous) {
		previous = nil
	}
	return credentialstate.Deployed{Wanted: wanted, Previous: previous}
}

func isPlausible(credential credentials.Named) bool {
	name := strings.TrimPrefix(credential.Name, credentials.IdentityName(""))
	return len(name) <= validation.DNS1123SubdomainMaxLength && credential.Size()-len(credential.Name) <= maxCredential
}

// readClaim returns the claim with the given name, or nil if there is none.
func readClaim(ctx context.Context, shoot client.Client, name string) (*corev1.PersistentVolumeClaim, error) {
	claim := &corev1.PersistentVolumeClaim{}
	if err := shoot.Get(ctx, client.ObjectKey{Namespace: component.Namespace, Name: name}, claim); apierrors.IsNotFound(err) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("read PersistentVolumeClaim %s in the Shoot: %w", name, err)
	}
	return claim, nil
}
