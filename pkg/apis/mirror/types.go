// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SharedRegistriesAnnotation of an OperatingSystemConfig is a JSON object with the upstreams whose mirrors nodes use
// together with the hosts of others, as keys.
const SharedRegistriesAnnotation = GroupName + "/containerd-registries"

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MirrorConfig configures mirrors of upstream registries.
type MirrorConfig struct { //nolint:revive // The API fixes the name.
	metav1.TypeMeta

	// Mirrors lists the upstreams and their mirrors.
	Mirrors []Mirror
}

// Mirror configures the mirrors of one upstream.
type Mirror struct {
	// Upstream is the host of the registry with an optional port, as it appears in image references.
	Upstream string
	// Hosts lists the mirrors of the upstream in the order in which nodes try them.
	Hosts []Host
}

// Host is one mirror of an upstream.
type Host struct {
	// Host is the URL of the mirror.
	Host string
	// Capabilities lists the operations for which nodes use the mirror.
	Capabilities []Capability
	// CABundleSecretReferenceName is the name of the entry in the Shoot's spec.resources that references the Secret with
	// the CA bundle of the mirror.
	CABundleSecretReferenceName *string
	// OverridePath uses the path of the URL as it is, without appending /v2.
	OverridePath *bool
}

// Capability is an operation that a mirror supports.
type Capability string

const (
	// Pull is the retrieval of blobs and of manifests by digest.
	Pull Capability = "pull"
	// Resolve is the resolution of tags to digests.
	Resolve Capability = "resolve"
)
