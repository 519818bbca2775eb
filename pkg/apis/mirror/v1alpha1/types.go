// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +kubebuilder:object:root=true
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MirrorConfig configures mirrors of upstream registries.
type MirrorConfig struct {
	metav1.TypeMeta `json:",inline"`

	// Mirrors lists the upstreams and their mirrors. At least one entry is required.
	Mirrors []Mirror `json:"mirrors"`
}

// Mirror configures the mirrors of one upstream.
type Mirror struct {
	// Upstream is the host of the registry with an optional port, as it appears in image references, for example
	// "docker.io". It must be unique among the mirrors.
	Upstream string `json:"upstream"`
	// Hosts lists the mirrors of the upstream in the order in which nodes try them. At least one entry is required.
	Hosts []Host `json:"hosts"`
}

// Host is one mirror of an upstream.
type Host struct {
	// Host is the URL of the mirror: http(s)://host[:port][/path].
	Host string `json:"host"`
	// Capabilities lists the operations for which nodes use the mirror: "pull" retrieves blobs and manifests by digest,
	// "resolve" resolves tags to digests.
	// Defaults to ["pull"].
	// +optional
	Capabilities []Capability `json:"capabilities,omitempty"`
	// CABundleSecretReferenceName is the name of the entry in the Shoot's spec.resources that references the Secret with
	// the CA certificates with which nodes verify the mirror. The Secret must be immutable and have the key "bundle.crt".
	// +optional
	CABundleSecretReferenceName *string `json:"caBundleSecretReferenceName,omitempty"`
	// OverridePath replaces "/v2" with the path of the URL. Otherwise, "/v2" is appended to the path.
	// Defaults to false.
	// +optional
	OverridePath *bool `json:"overridePath,omitempty"`
}

// Capability is an operation that a mirror supports.
type Capability string

const (
	// Pull is the retrieval of blobs and of manifests by digest.
	Pull Capability = "pull"
	// Resolve is the resolution of tags to digests.
	Resolve Capability = "resolve"
)
