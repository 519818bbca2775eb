// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package ownersecret

import (
	"fmt"
	"strings"

	securityv1alpha1constants "github.com/gardener/gardener/pkg/apis/security/v1alpha1/constants"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/upstream"
)

// WorkloadIdentity returns the material of a workload identity, or all errors. The Secret is the one in the seed in which
// Gardener keeps the token of the identity fresh; it has the name and the namespace of the WorkloadIdentity. The errors
// are reported for fldPath, the field that references the WorkloadIdentity.
func WorkloadIdentity(secret *corev1.Secret, use Use, fldPath *field.Path) (credentials.Material, field.ErrorList) {
	identity := credentials.WorkloadIdentity{
		Provider: credentials.Provider(secret.Labels[securityv1alpha1constants.LabelWorkloadIdentityProvider]),
		Config:   string(secret.Data[securityv1alpha1constants.DataKeyConfig]),
		Token:    strings.TrimSpace(string(secret.Data[securityv1alpha1constants.DataKeyToken])),
	}
	if allErrs := ValidateWorkloadIdentity(identity, secret.Namespace+"/"+secret.Name, use, fldPath); len(allErrs) > 0 {
		return credentials.Material{}, allErrs
	}
	material := credentials.Material{WorkloadIdentity: identity}
	if err := material.Validate(); err != nil {
		return credentials.Material{}, field.ErrorList{field.Invalid(fldPath, secret.Namespace+"/"+secret.Name,
			"the token that Gardener issued for the referenced WorkloadIdentity is invalid: "+err.Error())}
	}
	return material, nil
}

// ValidateWorkloadIdentity validates a workload identity with a name for a use. It does not need the token.
func ValidateWorkloadIdentity(identity credentials.WorkloadIdentity, name string, use Use, fldPath *field.Path) field.ErrorList {
	var allErrs field.ErrorList
	invalid := func(format string, args ...any) {
		allErrs = append(allErrs, field.Invalid(fldPath, name, "the referenced WorkloadIdentity "+fmt.Sprintf(format, args...)))
	}
	if use.hasKeys() {
		invalid("has no keys; remove usernameKey and passwordKey")
	}
	expected, registry := use.cloud()
	switch {
	case expected == "":
		invalid("is valid only for registries of Amazon ECR, Google Artifact Registry and Azure Container Registry, and %q is none of them; reference a Secret", use.host())
	case identity.Provider != expected:
		invalid("must have spec.targetSystem.type %q to be valid for %s", expected, registry)
	default:
		if err := identity.ValidateConfig(); err != nil {
			invalid("has an invalid spec.targetSystem.providerConfig: %v", err)
		}
	}
	return allErrs
}

// host returns the host of the upstream's API without a port. It decides which tokens are issued, since it receives them:
// the upstream may be a name of the owner's choice.
func (u Use) host() string {
	return upstream.Upstream(u.Upstream).APIHost(u.RemoteURL)
}

// cloud returns the provider of the upstream's cloud with the name of its registry, or nothing for other upstreams.
func (u Use) cloud() (credentials.Provider, string) {
	host := u.host()
	if _, ok := upstream.ParseECR(host); ok {
		return credentials.ProviderAWS, "Amazon ECR"
	}
	if _, ok := upstream.ParseACR(host); ok {
		return credentials.ProviderAzure, "Azure Container Registry"
	}
	if upstream.IsGoogle(host) {
		return credentials.ProviderGoogle, "Google Artifact Registry"
	}
	return "", ""
}
