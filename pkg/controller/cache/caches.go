// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"fmt"
	"sync"

	"github.com/Masterminds/semver/v3"
	extensionscontroller "github.com/gardener/gardener/extensions/pkg/controller"
	v1beta1helper "github.com/gardener/gardener/pkg/api/core/v1beta1/helper"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	gardenerimagevector "github.com/gardener/gardener/pkg/utils/imagevector"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/imagevector"
	"github.com/larder-project/larder/pkg/apis/registry"
	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/credentials/ownersecret"
	"github.com/larder-project/larder/pkg/problem"
	"github.com/larder-project/larder/pkg/reference"
)

// readCaches returns the inputs of the caches that do not come from the Shoot's API server, and an error for each cache
// that cannot be deployed as configured. Such a cache stays as it is deployed; if it never was, it is omitted.
func (a *Actuator) readCaches(ctx context.Context, ex *extensionsv1alpha1.Extension, cluster *extensionscontroller.Cluster) ([]deployment, []error, error) {
	config, err := a.Codec.DecodeConfig(ex.Spec.ProviderConfig)
	if err != nil {
		return nil, nil, problem.Configuration(fmt.Errorf("decode providerConfig of extension %s: %w", ex.Spec.Type, err))
	}
	version, err := semver.NewVersion(cluster.Shoot.Spec.Kubernetes.Version)
	if err != nil {
		return nil, nil, fmt.Errorf("parse Kubernetes version %q of the Shoot: %w", cluster.Shoot.Spec.Kubernetes.Version, err)
	}
	image, err := a.Images.FindImage(imagevector.RegistryCacheServer, gardenerimagevector.TargetVersion(version.String()))
	if err != nil {
		return nil, nil, fmt.Errorf("find image of the cache server: %w", err)
	}

	secrets := reference.Reader{Client: a.Client, Namespace: ex.Namespace, Shoot: cluster.Shoot}
	// Do not wait again after a failed wait; a few such Extensions would starve the rest.
	if ex.Status.LastError == nil {
		if err := secrets.Await(ctx, a.CopyTimeout, references(config.Caches)); err != nil {
			return nil, nil, err
		}
	}
	var (
		caches      []deployment
		problems    []error
		reader      = credentialReader{secrets: secrets, read: map[string]credentialResult{}}
		connections = newConnectionReader(secrets)
		deployed    = sync.OnceValues(func() (map[string][]client.Object, error) { return a.deployedObjects(ctx, ex.Namespace) })
	)
	for _, cache := range config.Caches {
		values := deployment{Values: component.Values{
			Cache:                 cache,
			Image:                 image.String(),
			KubernetesVersion:     version,
			VerticalPodAutoscaler: v1beta1helper.ShootWantsVerticalPodAutoscaler(cluster.Shoot),
		}}
		var unusable []error
		values.Connection, unusable = connections.read(ctx, cache)
		if entry := cache.SecretReferenceName; entry != nil {
			if values.Credential, err = reader.get(ctx, *entry); err != nil {
				unusable = append(unusable, err)
			}
		}
		for _, err := range unusable {
			problems = append(problems, fmt.Errorf("cache %s: %w", cache.Upstream, err))
		}
		if len(unusable) > 0 {
			objects, err := deployed()
			if err != nil {
				return nil, nil, err
			}
			if values.Deployed = objects[values.Name()]; values.Deployed == nil {
				continue
			}
		}
		caches = append(caches, values)
	}
	return caches, problems, nil
}

// references returns the entries of spec.resources that caches reference.
func references(caches []registry.RegistryCache) []string {
	var entries []string
	for _, cache := range caches {
		if cache.SecretReferenceName != nil {
			entries = append(entries, *cache.SecretReferenceName)
		}
		entries = append(entries, connectionReferences(cache)...)
	}
	return entries
}

// credentialReader reads the credentials that entries of spec.resources reference, each once.
type credentialReader struct {
	secrets reference.Reader
	read    map[string]credentialResult
}

type credentialResult struct {
	credential *credentials.Named
	err        error
}

// get returns the credential of an entry of spec.resources.
func (r credentialReader) get(ctx context.Context, entry string) (*credentials.Named, error) {
	result, ok := r.read[entry]
	if !ok {
		result.credential, result.err = r.readCredential(ctx, entry)
		r.read[entry] = result
	}
	return result.credential, result.err
}

// readCredential reads the Secret that an entry of spec.resources references. An unusable credential is an error; it
// never makes a cache anonymous.
func (r credentialReader) readCredential(ctx context.Context, entry string) (*credentials.Named, error) {
	secret, err := r.secrets.Secret(ctx, "secretReferenceName", entry)
	if err != nil {
		return nil, err
	}
	// Bound memory: without a limit, the Secrets of hundreds of caches, 1 MiB each, would be in memory at once.
	if size := len(secret.Data[credentials.UsernameKey]) + len(secret.Data[credentials.PasswordKey]); size > maxCredential {
		return nil, problem.Configuration(fmt.Errorf("the Secret %q has a user name and a password of %d bytes, more than the maximum of %d; create a new one and reference it in spec.resources entry %q", secret.Name, size, ownersecret.MaxLength, entry))
	}
	credential, errs := ownersecret.Credential(secret, reference.Path(entry))
	if len(errs) > 0 {
		return nil, reference.Invalid(secret, entry, errs)
	}
	return &credentials.Named{Name: secret.Name, Credential: credential}, nil
}
