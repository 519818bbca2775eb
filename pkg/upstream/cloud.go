// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstream

import "regexp"

var (
	googleHost = regexp.MustCompile(`^([a-z0-9-]{1,63}\.)?gcr\.io$|^[a-z0-9-]{1,63}\.pkg\.dev$`)
	acrHost    = regexp.MustCompile(`^[a-z0-9-]{1,63}\.azurecr\.(io|cn|us)$`)
)

// entraHosts are the token services of Microsoft Entra, by the top-level domain of a registry's cloud.
var entraHosts = map[string]string{
	"io": "login.microsoftonline.com",
	"cn": "login.partner.microsoftonline.cn",
	"us": "login.microsoftonline.us",
}

// IsGoogle reports whether a host without a port is a registry of Google Cloud: one of Artifact Registry or of its
// predecessor, Container Registry.
func IsGoogle(host string) bool { return googleHost.MatchString(host) }

// ParseACR returns the host of the Microsoft Entra service that issues tokens for the registry of Azure Container
// Registry at a host without a port, and false if the host is not one.
func ParseACR(host string) (entraHost string, ok bool) {
	parts := acrHost.FindStringSubmatch(host)
	if parts == nil {
		return "", false
	}
	return entraHosts[parts[1]], true
}
