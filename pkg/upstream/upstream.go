// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package upstream has two value types: [Upstream], the host of a registry, and [URL], the address of its API. It is
// the only place that derives names from the host: volumes and Services of running clusters depend on these names.
package upstream

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

const (
	// resourcePrefix is the prefix of the names of all objects of a cache.
	resourcePrefix = "registry-"
	// maxLabelLength limits the name of the StatefulSet to 52 characters: a longer one makes the label
	// controller-revision-hash of its pods invalid.
	maxLabelLength = 43
	// hashLength is the number of hex digits that distinguish long upstreams with a common prefix.
	hashLength = 5

	// DockerHub is the only upstream whose API has a different host than its image references.
	DockerHub Upstream = "docker.io"

	dockerHubRemoteURL = "https://registry-1.docker.io"
)

// Upstream is a registry host with an optional port, as it appears in image references: "docker.io",
// "registry.example.com:5000".
type Upstream string

// LabelValue is the value of the label upstream-host.
func (u Upstream) LabelValue() string {
	value := strings.ReplaceAll(string(u), ":", "-")
	if len(u) <= maxLabelLength {
		return value
	}
	sum := sha256.Sum256([]byte(u))
	hash := hex.EncodeToString(sum[:])[:hashLength]
	return value[:maxLabelLength-hashLength-1] + "-" + hash
}

// ResourceName is the name of the StatefulSet and the other objects of the cache.
func (u Upstream) ResourceName() string {
	return resourcePrefix + strings.ReplaceAll(u.LabelValue(), ".", "-")
}

// ServiceName is the name of the Service of the cache. It is derived from the suffix, or from the upstream if the
// suffix is nil.
func (u Upstream) ServiceName(suffix *string) string {
	if suffix != nil {
		return resourcePrefix + *suffix
	}
	return u.ResourceName()
}

// DefaultRemoteURL is the URL of the upstream's API unless its owner configures another one.
func (u Upstream) DefaultRemoteURL() string {
	if u == DockerHub {
		return dockerHubRemoteURL
	}
	return "https://" + string(u)
}

// APIHost returns the host of the upstream's API without a port: that of its remote URL, or else its own. It receives
// the credentials.
func (u Upstream) APIHost(remoteURL string) string {
	if url, err := ParseURL(remoteURL); err == nil {
		return url.Hostname
	}
	host, _, _ := strings.Cut(string(u), ":")
	return host
}
