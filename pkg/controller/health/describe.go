// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"fmt"
	"strings"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/controller/credentialstate"
)

// describe tells the owner of a cache the state of its credentials, and what to do about it.
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
