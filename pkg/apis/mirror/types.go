// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MirrorConfig lists the upstream registries that are reached by way of mirrors.
type MirrorConfig struct { //nolint:revive // The API fixes the name.
	metav1.TypeMeta

	// Mirrors are the upstreams with their mirrors.
	Mirrors []Mirror
}

// Mirror says by which hosts an upstream registry is mirrored.
type Mirror struct {
	// Upstream is the registry host, with an optional port, as it appears in image references.
	Upstream string
	// Hosts are the mirrors of the upstream, in the order in which they are asked.
	Hosts []Host
}

// Host is one mirror of an upstream.
type Host struct {
	// Host is the URL of the mirror.
	Host string
	// Capabilities are what the mirror is asked for.
	Capabilities []Capability
	// CABundleSecretReferenceName is the name of the entry in the Shoot's
	// spec.resources that refers to the Secret with the mirror's CA bundle.
	CABundleSecretReferenceName *string
	// OverridePath says whether the URL's path stands in the place of /v2.
	OverridePath *bool
}

// Capability is something that a mirror can be asked for.
type Capability string

const (
	// Pull is to get manifests by digest, and blobs.
	Pull Capability = "pull"
	// Resolve is to say which digest a tag leads to.
	Resolve Capability = "resolve"
)
