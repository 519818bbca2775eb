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
)

// describe explains the state of a cache's credential to its owner, and what to do about it.
func describe(cache registry.RegistryCacheStatus) string {
	status := cache.Credentials
	wanted, cause := credentialstate.WantedSecret(status), strings.TrimSuffix(status.Message, ".")
	fallback := ""
	if status.PendingSecretName != "" && status.SecretName != "" {
		fallback = fmt.Sprintf(" Until then, the cache uses the Secret %q, which must stay valid.", status.SecretName)
	}
	switch status.State {
	case registry.CredentialsActive:
		return fmt.Sprintf("The registry cache for %s uses the Secret %q, which its upstream accepts.", cache.Upstream, status.SecretName)
	case registry.CredentialsRejected:
		code := ""
		if status.UpstreamStatusCode != nil {
			code = fmt.Sprintf(" with status %d", *status.UpstreamStatusCode)
		}
		return fmt.Sprintf("The upstream %s rejects the Secret %q of its registry cache%s (%s). Create a new Secret and reference it in spec.resources.%s",
			cache.Upstream, wanted, code, cause, fallback)
	case registry.CredentialsMissing:
		return fmt.Sprintf("The registry cache for %s is missing the credential of the Secret %q (%s).", cache.Upstream, wanted, cause)
	}
	return fmt.Sprintf("The registry cache for %s does not use the Secret %q yet (%s).%s", cache.Upstream, wanted, cause, fallback)
}

// credentialProblem returns the problem of a cache's credential. A credential that is still checked is none: its
// predecessor is in use until then.
func credentialProblem(cache registry.RegistryCacheStatus) readiness.Problem {
	if cache.Credentials == nil {
		return readiness.Problem{}
	}
	switch cache.Credentials.State {
	case registry.CredentialsRejected:
		return readiness.Problem{Reason: readiness.CredentialRejected, Message: describe(cache)}
	case registry.CredentialsMissing:
		return readiness.Problem{Reason: readiness.CredentialMissing, Message: describe(cache)}
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
