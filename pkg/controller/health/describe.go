// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/controller/credentialstate"
	"github.com/larder-project/larder/pkg/controller/readiness"
	"github.com/larder-project/larder/pkg/credentials"
)

// credential is a credential of a cache.
type credential struct {
	// name is the upstream, followed by the repositories that the credential is for if it is not for all.
	name   string
	status *registry.CredentialsStatus
}

// credentialsOf returns the credentials of a cache.
func credentialsOf(cache registry.RegistryCacheStatus) []credential {
	var found []credential
	if cache.Credentials != nil {
		found = append(found, credential{name: cache.Upstream, status: cache.Credentials})
	}
	for i := range cache.RepositoryCredentials {
		entry := &cache.RepositoryCredentials[i]
		name := cache.Upstream
		if len(entry.Repositories) > 0 {
			name += "/" + entry.Repositories[0]
		}
		if more := len(entry.Repositories) - 1; more > 0 {
			name += fmt.Sprintf(" (and %d more)", more)
		}
		found = append(found, credential{name: name, status: &entry.Credentials})
	}
	return found
}

// describe explains the state of a credential to its owner, and what to do about it.
func describe(credential credential) string {
	status := credential.status
	name, cause := credentialstate.WantedSecret(status), strings.TrimSuffix(status.Message, ".")
	wanted := credentials.Describe(name)
	fallback := ""
	if status.PendingSecretName != "" && status.SecretName != "" {
		fallback = fmt.Sprintf(" Until then, the cache uses the %s, which must stay valid.", credentials.Describe(status.SecretName))
	}
	switch status.State {
	case registry.CredentialsActive:
		return fmt.Sprintf("The registry cache for %s uses the %s, which its upstream accepts.", credential.name, credentials.Describe(status.SecretName))
	case registry.CredentialsRejected:
		code := ""
		if status.UpstreamStatusCode != nil {
			code = fmt.Sprintf(" with status %d", *status.UpstreamStatusCode)
		}
		remedy := "Create a new Secret and reference it in spec.resources."
		if credentials.IsIdentity(name) {
			remedy = "Allow it to pull in the cloud, or reference another one in spec.resources."
		}
		return fmt.Sprintf("The upstream %s rejects the %s of its registry cache%s (%s). %s%s", credential.name, wanted, code, cause, remedy, fallback)
	case registry.CredentialsMissing:
		return fmt.Sprintf("The registry cache for %s is missing the credential of the %s (%s).", credential.name, wanted, cause)
	}
	return fmt.Sprintf("The registry cache for %s does not use the %s yet (%s).%s", credential.name, wanted, cause, fallback)
}

// credentialProblem returns the first problem of a cache's credentials. A credential that is still checked is none: its
// predecessor is in use until then.
func credentialProblem(cache registry.RegistryCacheStatus) readiness.Problem {
	for _, credential := range credentialsOf(cache) {
		switch credential.status.State {
		case registry.CredentialsRejected:
			return readiness.Problem{Reason: readiness.CredentialRejected, Message: describe(credential)}
		case registry.CredentialsMissing:
			return readiness.Problem{Reason: readiness.CredentialMissing, Message: describe(credential)}
		}
	}
	return readiness.Problem{}
}

// ready returns the condition Ready of a cache, nil before the first look.
func ready(cache registry.RegistryCacheStatus) *metav1.Condition {
	return meta.FindStatusCondition(cache.Conditions, registry.ConditionReady)
}

// describeReadiness explains the condition Ready of a cache to its owner.
func describeReadiness(cache registry.RegistryCacheStatus) string {
	return fmt.Sprintf("Registry cache for %s: %s", cache.Upstream, ready(cache).Message)
}
