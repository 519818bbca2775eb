// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"crypto/sha256"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/larder-project/larder/pkg/pullsecret"
)

// action is what is to be done with a Secret in a namespace.
type action int

const (
	// leave means that there is nothing to do.
	leave action = iota
	// respect means that a Secret of somebody else has the name.
	respect
	// remove means that the Secret is no longer wanted.
	remove
	// replace means that the Secret cannot be updated and must be deleted before it is created again.
	replace
	// write means that the Secret must exist with the wanted content.
	write
)

// decide returns what is to be done in a namespace in which a Secret is wanted or not, and in which present has
// its name. Present is nil if there is no such Secret.
func decide(namespace types.UID, wanted bool, present *corev1.Secret) action {
	switch {
	case present == nil && !wanted:
		return leave
	case present != nil && !isOwn(present, namespace):
		if wanted {
			return respect
		}
		return leave
	case !wanted:
		return remove
	case present != nil && (present.Type != corev1.SecretTypeDockerConfigJson || present.Immutable != nil && *present.Immutable):
		return replace
	}
	return write
}

// isOwn reports whether this controller keeps a Secret in a namespace.
func isOwn(secret *corev1.Secret, namespace types.UID) bool {
	return namespace != "" && secret.Labels[pullsecret.Label] == string(namespace)
}

// isOwnedBy reports whether a Secret has an owner with the given name, so that Kubernetes collects it. The controller
// sets the UID when it creates the Secret; a Secret whose owner has another UID is collected and created again.
func isOwnedBy(secret *corev1.Secret, name string) bool {
	for _, owner := range secret.OwnerReferences {
		if owner.APIVersion == rbacv1.SchemeGroupVersion.String() && owner.Kind == "ClusterRole" && owner.Name == name {
			return true
		}
	}
	return false
}

// hasContent reports whether a Secret from the informer, see [withoutContent], has the given content. It may have more.
func hasContent(secret *corev1.Secret, content map[string][]byte) bool {
	for key, value := range content {
		sum := sha256.Sum256(value)
		if string(secret.Data[checksumPrefix+key]) != string(sum[:]) {
			return false
		}
	}
	return true
}

// references is the set of pull secrets that a ServiceAccount should reference.
type references struct {
	wanted []string
	// undecided are those that could not be decided on. They stay as they are.
	undecided []string
}

// change is a change to a ServiceAccount.
type change struct {
	// references are all references, with those of others in their order.
	references []corev1.LocalObjectReference
	// recorded are the references that the controller has added.
	recorded []string
}

// changeOf returns the change that makes a ServiceAccount reference the pull secrets, and false if there is none. It
// removes only references that the controller added, which the ServiceAccount has in an annotation.
func (r references) changeOf(account *corev1.ServiceAccount) (change, bool) {
	before := recordedReferences(account)
	present := map[string]bool{}
	for _, reference := range account.ImagePullSecrets {
		present[reference.Name] = true
	}
	recorded := map[string]bool{}
	c := change{references: slices.DeleteFunc(slices.Clone(account.ImagePullSecrets), func(reference corev1.LocalObjectReference) bool {
		return before[reference.Name] && !slices.Contains(r.wanted, reference.Name) && !slices.Contains(r.undecided, reference.Name)
	})}
	for _, name := range r.wanted {
		if !present[name] {
			c.references = append(c.references, corev1.LocalObjectReference{Name: name})
		}
		if !present[name] || before[name] {
			recorded[name] = true
		}
	}
	for _, name := range r.undecided {
		if before[name] {
			recorded[name] = true
		}
	}
	c.recorded = slices.Sorted(maps.Keys(recorded))
	return c, !slices.Equal(c.references, account.ImagePullSecrets) || !maps.Equal(before, recorded)
}

// missing returns the wanted references that a ServiceAccount does not have.
func (r references) missing(account *corev1.ServiceAccount) []string {
	return slices.DeleteFunc(slices.Clone(r.wanted), func(name string) bool {
		return slices.Contains(account.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
	})
}

// recordedReferences returns the references that the controller has added to a ServiceAccount.
func recordedReferences(account *corev1.ServiceAccount) map[string]bool {
	names := map[string]bool{}
	for name := range strings.SplitSeq(account.Annotations[pullsecret.ReferencesAnnotation], ",") {
		if name != "" {
			names[name] = true
		}
	}
	return names
}
