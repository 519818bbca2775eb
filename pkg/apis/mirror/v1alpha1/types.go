// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +kubebuilder:object:root=true
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MirrorConfig lists the upstream registries that are reached by way of mirrors.
type MirrorConfig struct {
	metav1.TypeMeta `json:",inline"`

	// Mirrors are the upstreams with their mirrors. At least one is required.
	Mirrors []Mirror `json:"mirrors"`
}

// Mirror says by which hosts an upstream registry is mirrored.
type Mirror struct {
	// Upstream is the registry host, with an optional port, as it appears in image references, for
	// example "docker.io". It must be unique among the mirrors.
	Upstream string `json:"upstream"`
	// Hosts are the mirrors of the upstream, in the order in which they are asked. At least one is required.
	Hosts []Host `json:"hosts"`
}

// Host is one mirror of an upstream.
type Host struct {
	// Host is the URL of the mirror: http or https, a host and optionally a port and a path.
	Host string `json:"host"`
	// Capabilities are what the mirror is asked for: "pull", to get manifests by digest and blobs, and
	// "resolve", to say which digest a tag leads to.
	// Defaults to ["pull"].
	// +optional
	Capabilities []Capability `json:"capabilities,omitempty"`
	// CABundleSecretReferenceName is the name of the entry in the Shoot's spec.resources that refers to
	// the Secret with the certificates by which nodes trust the mirror. The Secret must be immutable and
	// hold the key "bundle.crt".
	// +optional
	CABundleSecretReferenceName *string `json:"caBundleSecretReferenceName,omitempty"`
	// OverridePath says whether the URL's path stands in the place of "/v2", instead of before it.
	// Defaults to false.
	// +optional
	OverridePath *bool `json:"overridePath,omitempty"`
}

// Capability is something that a mirror can be asked for.
type Capability string

const (
	// Pull is to get manifests by digest, and blobs.
	Pull Capability = "pull"
	// Resolve is to say which digest a tag leads to.
	Resolve Capability = "resolve"
)
