// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package reference reads the Secrets that entries of a Shoot's spec.resources reference. In the seed, these are
// gardenlet's copies in the Shoot's namespace. Errors name the owner's Secret, not the copy.
package reference

import (
	"context"
	"fmt"
	"time"

	v1beta1helper "github.com/gardener/gardener/pkg/api/core/v1beta1/helper"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	securityv1alpha1 "github.com/gardener/gardener/pkg/apis/security/v1alpha1"
	securityv1alpha1constants "github.com/gardener/gardener/pkg/apis/security/v1alpha1/constants"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/credentials/ownersecret"
	"github.com/larder-project/larder/pkg/problem"
)

const pollInterval = time.Second

// WorkloadIdentityKind is the kind of workload identities in references.
const WorkloadIdentityKind = "WorkloadIdentity"

// What an entry of spec.resources must reference, for errors: for a credential, and for everything else.
const (
	CredentialKinds = "a Secret (v1) or a WorkloadIdentity (security.gardener.cloud/v1alpha1)"
	SecretKind      = "a Secret (v1)"
)

// Reader reads the Secrets that a Shoot references.
type Reader struct {
	// Client reads from the seed.
	Client client.Reader
	// Namespace is the Shoot's namespace in the seed.
	Namespace string
	// Shoot is the Shoot.
	Shoot *gardencorev1beta1.Shoot
}

// Path returns the path of an entry of spec.resources.
func Path(entry string) *field.Path {
	return field.NewPath("spec", "resources").Key(entry).Child("resourceRef", "name")
}

// Secret returns the Secret that an entry of spec.resources references, with the name and the namespace of the owner's
// Secret. The field is the one in which the owner names the entry.
func (r Reader) Secret(ctx context.Context, fieldName, entry string) (*corev1.Secret, error) {
	return r.secret(ctx, fieldName, entry, SecretKind)
}

// secret is Secret for an entry that must reference one of some kinds.
func (r Reader) secret(ctx context.Context, fieldName, entry, kinds string) (*corev1.Secret, error) {
	resource := v1beta1helper.GetResourceByName(r.Shoot.Spec.Resources, entry)
	if resource == nil {
		return nil, problem.Configuration(fmt.Errorf("%s %q does not name an entry of the Shoot's spec.resources; add an entry that references %s", fieldName, entry, kinds))
	}
	reference := resource.ResourceRef
	if reference.Kind != "Secret" || reference.APIVersion != "v1" {
		return nil, problem.Configuration(fmt.Errorf("spec.resources entry %q references the %s %q (%s); it must reference %s", entry, reference.Kind, reference.Name, reference.APIVersion, kinds))
	}
	secret := &corev1.Secret{}
	if err := r.Client.Get(ctx, r.copyKey(reference.Name), secret); apierrors.IsNotFound(err) {
		return nil, problem.Retryable(fmt.Errorf("the Secret %q that spec.resources entry %q references has not been copied to the seed yet; make sure that it exists in the namespace of the Shoot, or reference another one; this is retried", reference.Name, entry))
	} else if err != nil {
		return nil, fmt.Errorf("read Secret %q referenced by spec.resources entry %q: %w", reference.Name, entry, err)
	}
	secret.Namespace, secret.Name = r.Shoot.Namespace, reference.Name
	return secret, nil
}

// Content returns the content of the Secret that an entry of spec.resources references, or of the one in which Gardener
// keeps the token of the WorkloadIdentity that it references. The field is the one in which the owner names the entry.
func (r Reader) Content(ctx context.Context, fieldName, entry string) (*corev1.Secret, *ownersecret.Content, error) {
	resource := v1beta1helper.GetResourceByName(r.Shoot.Spec.Resources, entry)
	if resource == nil || !isWorkloadIdentity(resource.ResourceRef) {
		secret, err := r.secret(ctx, fieldName, entry, CredentialKinds)
		if err != nil {
			return nil, nil, err
		}
		return secret, ownersecret.Parse(secret), nil
	}
	name := resource.ResourceRef.Name
	secret := &corev1.Secret{}
	err := r.Client.Get(ctx, r.identityKey(name), secret)
	switch {
	case apierrors.IsNotFound(err) || err == nil && len(secret.Data[securityv1alpha1constants.DataKeyToken]) == 0:
		return nil, nil, problem.Retryable(fmt.Errorf("the WorkloadIdentity %q that spec.resources entry %q references has no token in the seed yet; make sure that it exists in the namespace of the Shoot, or reference another one; this is retried", name, entry))
	case err != nil:
		return nil, nil, fmt.Errorf("read token of WorkloadIdentity %q referenced by spec.resources entry %q: %w", name, entry, err)
	}
	secret.Namespace, secret.Name = r.Shoot.Namespace, name
	return secret, ownersecret.ParseWorkloadIdentity(secret), nil
}

func isWorkloadIdentity(reference autoscalingv1.CrossVersionObjectReference) bool {
	return reference.Kind == WorkloadIdentityKind && reference.APIVersion == securityv1alpha1.SchemeGroupVersion.String()
}

// CABundle returns the CA bundle in the Secret that an entry of spec.resources references. The entry is named in
// caBundleSecretReferenceName.
func (r Reader) CABundle(ctx context.Context, entry string) ([]byte, error) {
	secret, err := r.Secret(ctx, "caBundleSecretReferenceName", entry)
	if err != nil {
		return nil, err
	}
	bundle, errs := ownersecret.CABundle(secret, Path(entry))
	if len(errs) > 0 {
		return nil, Invalid(secret.Name, entry, errs)
	}
	return bundle, nil
}

// Invalid returns the error for an object that its owner has to replace, with its name as in [credentials.Named].
func Invalid(name, entry string, errs field.ErrorList) error {
	return problem.Configuration(fmt.Errorf("the %s is invalid; create a new one and reference it in spec.resources entry %q: %w", credentials.Describe(name), entry, errs.ToAggregate()))
}

// Await waits until the Secrets that entries of spec.resources reference are in the seed, but for no longer than the
// timeout: gardener-resource-manager copies them while gardenlet proceeds to the Extension. [Reader.Secret] reports
// those that are still missing.
func (r Reader) Await(ctx context.Context, timeout time.Duration, entries []string) error {
	missing := sets.New[client.ObjectKey]()
	for _, entry := range entries {
		resource := v1beta1helper.GetResourceByName(r.Shoot.Spec.Resources, entry)
		switch {
		case resource == nil:
		case resource.ResourceRef.Kind == "Secret":
			missing.Insert(r.copyKey(resource.ResourceRef.Name))
		case isWorkloadIdentity(resource.ResourceRef):
			missing.Insert(r.identityKey(resource.ResourceRef.Name))
		}
	}
	err := wait.PollUntilContextTimeout(ctx, pollInterval, timeout, true, func(ctx context.Context) (bool, error) {
		for key := range missing {
			secret := &metav1.PartialObjectMetadata{}
			secret.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
			err := r.Client.Get(ctx, key, secret)
			if apierrors.IsNotFound(err) {
				return false, nil
			} else if err != nil {
				return false, fmt.Errorf("look up Secret %q, which spec.resources references: %w", key.Name, err)
			}
			missing.Delete(key)
		}
		return true, nil
	})
	if wait.Interrupted(err) {
		return ctx.Err()
	}
	return err
}

// copyKey returns the key of gardenlet's copy of a Secret in the Shoot's project.
func (r Reader) copyKey(name string) client.ObjectKey {
	return client.ObjectKey{Namespace: r.Namespace, Name: v1beta1constants.ReferencedResourcesPrefix + name}
}

// identityKey returns the key of the Secret in which Gardener keeps the token of a WorkloadIdentity in the Shoot's
// project.
func (r Reader) identityKey(name string) client.ObjectKey {
	return client.ObjectKey{Namespace: r.Namespace, Name: v1beta1constants.ReferencedWorkloadIdentityPrefix + name}
}
