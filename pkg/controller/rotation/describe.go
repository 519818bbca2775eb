// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"fmt"
	"strings"

	"github.com/larder-project/larder/pkg/apis/registry"
)

// describe says in one sentence how the credentials of a cache get along, and
// what their owner can do.
func describe(cache registry.RegistryCacheStatus) string {
	status := cache.Credentials
	stays := ""
	if status.PendingSecretName != "" && status.SecretName != "" {
		stays = fmt.Sprintf(" Until then the cache uses the credentials of the Secret %q, which must stay valid.", status.SecretName)
	}
	switch status.State {
	case registry.CredentialsActive:
		return fmt.Sprintf("The registry cache of %s uses the Secret %q, and its upstream accepts it.", cache.Upstream, status.SecretName)
	case registry.CredentialsRejected:
		answer := "rejects"
		if status.UpstreamStatusCode != nil {
			answer = fmt.Sprintf("rejects with status %d", *status.UpstreamStatusCode)
		}
		return fmt.Sprintf("The upstream %s %s the Secret %q of its registry cache (%s): create a new Secret and refer to that.%s",
			cache.Upstream, answer, Wanted(status), strings.TrimSuffix(status.Message, "."), stays)
	case registry.CredentialsMissing:
		return fmt.Sprintf("The registry cache of %s lacks the credentials of the Secret %q (%s).", cache.Upstream, Wanted(status), status.Message)
	}
	return fmt.Sprintf("The registry cache of %s is about to use the Secret %q (%s).%s", cache.Upstream, Wanted(status), status.Message, stays)
}
