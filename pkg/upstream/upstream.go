// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package upstream has one value type, [Upstream], for a registry host in
// front of which a cache stands. Every name that is derived from the host is
// derived here and nowhere else: volumes and Services of running clusters
// depend on these names.
package upstream

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

const (
	// resourcePrefix starts the name of every object of a cache.
	resourcePrefix = "registry-"
	// maxLabelLength keeps the derived StatefulSet name within 52 characters:
	// longer ones make the label controller-revision-hash of its pods invalid.
	maxLabelLength = 43
	// hashLength is the number of hex digits that tell apart upstreams with the same beginning.
	hashLength = 5

	dockerHub          = "docker.io"
	dockerHubRemoteURL = "https://registry-1.docker.io"
)

// Upstream is a registry host with an optional port, as it appears in image
// references: "docker.io", "registry.example.com:5000".
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

// ServiceName is the name of the Service of the cache: derived from the
// upstream, or from the suffix if there is one.
func (u Upstream) ServiceName(suffix *string) string {
	if suffix != nil {
		return resourcePrefix + *suffix
	}
	return u.ResourceName()
}

// DefaultRemoteURL is the URL at which the upstream is reached if its owner names no other.
func (u Upstream) DefaultRemoteURL() string {
	if u == dockerHub {
		return dockerHubRemoteURL
	}
	return "https://" + string(u)
}
