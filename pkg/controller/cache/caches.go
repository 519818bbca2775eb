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
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	gardenerimagevector "github.com/gardener/gardener/pkg/utils/imagevector"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/imagevector"
	"github.com/larder-project/larder/pkg/apis/registry"
	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/credentials/ownersecret"
)

// readCaches returns the inputs of the caches that do not come from the Shoot's API server, and an error for each cache
// that cannot be deployed as configured. Such a cache stays as it is deployed; if it never was, it is omitted.
func (a *Actuator) readCaches(ctx context.Context, ex *extensionsv1alpha1.Extension, cluster *extensionscontroller.Cluster) ([]deployment, []error, error) {
	config, err := a.Codec.DecodeConfig(ex.Spec.ProviderConfig)
	if err != nil {
		return nil, nil, configurationProblem(fmt.Errorf("decode providerConfig of extension %s: %w", ex.Spec.Type, err))
	}
	version, err := semver.NewVersion(cluster.Shoot.Spec.Kubernetes.Version)
	if err != nil {
		return nil, nil, fmt.Errorf("parse Kubernetes version %q of the Shoot: %w", cluster.Shoot.Spec.Kubernetes.Version, err)
	}
	image, err := a.Images.FindImage(imagevector.RegistryCacheServer, gardenerimagevector.TargetVersion(version.String()))
	if err != nil {
		return nil, nil, fmt.Errorf("find image of the cache server: %w", err)
	}

	// Do not wait again after a failed wait; a few such Extensions would starve the rest.
	if ex.Status.LastError == nil {
		if err := a.awaitCopies(ctx, ex.Namespace, cluster.Shoot, config.Caches); err != nil {
			return nil, nil, err
		}
	}
	var (
		caches   []deployment
		problems []error
		reader   = credentialReader{client: a.Client, namespace: ex.Namespace, shoot: cluster.Shoot, read: map[string]credentialResult{}}
		deployed = sync.OnceValues(func() (map[string][]client.Object, error) { return a.deployedObjects(ctx, ex.Namespace) })
	)
	for _, cache := range config.Caches {
		values := deployment{Values: component.Values{
			Cache:                 cache,
			Image:                 image.String(),
			KubernetesVersion:     version,
			VerticalPodAutoscaler: v1beta1helper.ShootWantsVerticalPodAutoscaler(cluster.Shoot),
		}}
		if reference := cache.SecretReferenceName; reference != nil {
			values.Credential, err = reader.get(ctx, *reference)
			if err != nil {
				problems = append(problems, fmt.Errorf("cache %s: %w", cache.Upstream, err))
				objects, err := deployed()
				if err != nil {
					return nil, nil, err
				}
				if values.Deployed = objects[values.Name()]; values.Deployed == nil {
					continue
				}
			}
		}
		caches = append(caches, values)
	}
	return caches, problems, nil
}

// awaitCopies waits until the Secrets that caches reference are in the seed, but for no longer than CopyTimeout:
// gardener-resource-manager copies them while gardenlet proceeds to the Extension. The credentialReader reports those
// that are still missing.
func (a *Actuator) awaitCopies(ctx context.Context, namespace string, shoot *gardencorev1beta1.Shoot, caches []registry.RegistryCache) error {
	missing := sets.New[string]()
	for _, cache := range caches {
		resource := v1beta1helper.GetResourceByName(shoot.Spec.Resources, ptr.Deref(cache.SecretReferenceName, ""))
		if resource != nil && resource.ResourceRef.Kind == "Secret" {
			missing.Insert(resource.ResourceRef.Name)
		}
	}
	err := wait.PollUntilContextTimeout(ctx, pollInterval, a.CopyTimeout, true, func(ctx context.Context) (bool, error) {
		for name := range missing {
			secret := &metav1.PartialObjectMetadata{}
			secret.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
			err := a.Client.Get(ctx, copyKey(namespace, name), secret)
			if apierrors.IsNotFound(err) {
				return false, nil
			} else if err != nil {
				return false, fmt.Errorf("look up Secret %q referenced in spec.resources: %w", name, err)
			}
			missing.Delete(name)
		}
		return true, nil
	})
	if wait.Interrupted(err) {
		return ctx.Err()
	}
	return err
}

// copyKey returns the key of gardenlet's copy of a Secret in the Shoot's project.
func copyKey(namespace, name string) client.ObjectKey {
	return client.ObjectKey{Namespace: namespace, Name: v1beta1constants.ReferencedResourcesPrefix + name}
}

// credentialReader reads the credentials that entries of spec.resources reference, each once.
type credentialReader struct {
	client    client.Client
	namespace string
	shoot     *gardencorev1beta1.Shoot
	read      map[string]credentialResult
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

// readCredential reads gardenlet's copy of the Secret that an entry of spec.resources references. An unusable
// credential is an error; it never makes a cache anonymous.
func (r credentialReader) readCredential(ctx context.Context, entry string) (*credentials.Named, error) {
	resource := v1beta1helper.GetResourceByName(r.shoot.Spec.Resources, entry)
	if resource == nil {
		return nil, configurationProblem(fmt.Errorf("secretReferenceName %q does not name an entry of the Shoot's spec.resources; add an entry that references a Secret", entry))
	}
	reference := resource.ResourceRef
	if reference.Kind != "Secret" || reference.APIVersion != "v1" {
		return nil, configurationProblem(fmt.Errorf("spec.resources entry %q references the %s %q (%s); it must reference a Secret (v1)", entry, reference.Kind, reference.Name, reference.APIVersion))
	}

	secret := &corev1.Secret{}
	if err := r.client.Get(ctx, copyKey(r.namespace, reference.Name), secret); apierrors.IsNotFound(err) {
		return nil, retryableProblem(fmt.Errorf("the Secret %q that spec.resources entry %q references has not been copied to the seed yet; make sure that it exists in the namespace of the Shoot, or reference another one; this is retried", reference.Name, entry))
	} else if err != nil {
		return nil, fmt.Errorf("read Secret %q referenced by spec.resources entry %q: %w", reference.Name, entry, err)
	}
	// Bound memory: without a limit, the Secrets of hundreds of caches, 1 MiB each, would be in memory at once.
	if size := len(secret.Data[credentials.UsernameKey]) + len(secret.Data[credentials.PasswordKey]); size > maxCredential {
		return nil, configurationProblem(fmt.Errorf("the Secret %q has a user name and a password of %d bytes, more than the maximum of %d; create a new one and reference it in spec.resources entry %q", reference.Name, size, ownersecret.MaxLength, entry))
	}

	// Errors are about the owner's Secret, not about the copy.
	secret.Namespace, secret.Name = r.shoot.Namespace, reference.Name
	credential, errs := ownersecret.Credential(secret, field.NewPath("spec", "resources").Key(entry).Child("resourceRef", "name"))
	if len(errs) > 0 {
		return nil, configurationProblem(fmt.Errorf("the Secret %q is invalid; create a new one and reference it in spec.resources entry %q: %w", reference.Name, entry, errs.ToAggregate()))
	}
	return &credentials.Named{Name: reference.Name, Credential: credential}, nil
}
