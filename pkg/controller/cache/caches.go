// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"errors"
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
// that cannot be deployed as configured, see [deployment.keep].
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
		if err := reader.readInto(ctx, &values.Values); err != nil {
			unusable = append(unusable, err)
		}
		for _, err := range unusable {
			problems = append(problems, fmt.Errorf("cache %s: %w", cache.Upstream, err))
		}
		if len(unusable) > 0 {
			objects, err := deployed()
			if err != nil {
				return nil, nil, err
			}
			if !values.keep(objects[values.Name()]) {
				continue
			}
		}
		caches = append(caches, values)
	}
	return caches, problems, nil
}

// tokenDigest returns the digest of the tokens that the caches reference, see [reference.TokensAnnotation].
func (a *Actuator) tokenDigest(ctx context.Context, ex *extensionsv1alpha1.Extension, cluster *extensionscontroller.Cluster) (string, error) {
	config, err := a.Codec.DecodeConfig(ex.Spec.ProviderConfig)
	if err != nil {
		return "", nil //nolint:nilerr // readCaches reports it.
	}
	return reference.Reader{Client: a.Client, Namespace: ex.Namespace, Shoot: cluster.Shoot}.TokenDigest(ctx, references(config.Caches))
}

// references returns the entries of spec.resources that caches reference.
func references(caches []registry.RegistryCache) []string {
	var entries []string
	for i := range caches {
		for _, credential := range reference.Credentials(&caches[i], nil) {
			entries = append(entries, credential.Entry)
		}
		for _, connection := range caches[i].ConnectionReferences() {
			entries = append(entries, connection.Entry)
		}
	}
	return entries
}

// credentialReader reads the Secrets that entries of spec.resources reference, each once.
type credentialReader struct {
	secrets reference.Reader
	read    map[string]credentialResult
}

type credentialResult struct {
	content *ownersecret.Content
	err     error
}

// readInto reads the credentials that a cache references into its values. An unusable credential is an error and nil in
// the values; it never makes a cache anonymous.
func (r credentialReader) readInto(ctx context.Context, values *component.Values) error {
	var errs []error
	for _, credential := range reference.Credentials(&values.Cache, nil) {
		named, err := r.get(ctx, credential)
		if err != nil {
			errs = append(errs, err)
		}
		if len(credential.Use.Repositories) == 0 {
			values.Credential = named
			continue
		}
		values.RepositoryCredentials = append(values.RepositoryCredentials, component.RepositoryCredential{
			Repositories: credential.Use.Repositories, Credential: named,
		})
	}
	return errors.Join(errs...)
}

// get returns a credential.
func (r credentialReader) get(ctx context.Context, credential reference.Credential) (*credentials.Named, error) {
	result, ok := r.read[credential.Entry]
	if !ok {
		result = r.parse(ctx, credential.Entry)
		r.read[credential.Entry] = result
	}
	if result.err != nil {
		return nil, result.err
	}
	material, errs := result.content.Material(credential.Use, reference.Path(credential.Entry))
	if len(errs) > 0 {
		return nil, reference.Invalid(result.content.Name(), credential.Entry, errs)
	}
	named := &credentials.Named{Name: result.content.Name(), Material: material}
	if size := named.Size(); size > maxCredential {
		return nil, tooLarge(named.Name, size, credential.Entry)
	}
	return named, nil
}

// parse reads and parses the Secret that an entry of spec.resources references.
func (r credentialReader) parse(ctx context.Context, entry string) credentialResult {
	secret, content, err := r.secrets.Content(ctx, "secretReferenceName", entry)
	if err != nil {
		return credentialResult{err: err}
	}
	// Bound memory: without a limit, the Secrets of hundreds of caches, 1 MiB each, would be in memory at once.
	if size := sizeOf(secret.Data); size > maxCredential {
		return credentialResult{err: tooLarge(content.Name(), size, entry)}
	}
	return credentialResult{content: content}
}

func tooLarge(name string, size int, entry string) error {
	return problem.Configuration(fmt.Errorf("the %s has %d bytes, more than the maximum of %d; create a new one and reference it in spec.resources entry %q", credentials.Describe(name), size, maxCredential, entry))
}
