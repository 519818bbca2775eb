// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +kubebuilder:object:root=true
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MirrorConfig configures the mirrors of upstream registries that the nodes of a Shoot use. It is the providerConfig of
// the extension.
type MirrorConfig struct {
	metav1.TypeMeta `json:",inline"`

	// Mirrors lists the upstreams and their mirrors. It must have at least one and at most 100 entries.
	Mirrors []Mirror `json:"mirrors"`
}

// Mirror configures the mirrors of one upstream.
type Mirror struct {
	// Upstream is the host of the registry with an optional port, as it appears in image references, for example
	// "docker.io" or "registry.example.com:5000". It must be a DNS subdomain, optionally followed by ":" and a port from 1
	// to 65535, must not have a scheme, must be unique among the mirrors, and must not have a cache of the extension
	// registry-cache.
	Upstream string `json:"upstream"`
	// Hosts lists the mirrors of the upstream in the order in which nodes try them before the upstream itself. It must
	// have at least one and at most 5 entries.
	Hosts []Host `json:"hosts"`
}

// Host is one mirror of an upstream.
type Host struct {
	// Host is the URL of the mirror: http(s)://host[:port][/path], where the host is a DNS name in lower case, an IPv4
	// address, or an IPv6 address in brackets. It must not have user info, a query, a fragment, path segments "." or "..",
	// or characters in the path other than letters, digits, "-", ".", "_", "~", "+" and ":". It must be unique among the
	// hosts of the upstream. A trailing slash is ignored.
	Host string `json:"host"`
	// Capabilities lists the operations for which nodes use the mirror: "pull" retrieves blobs and manifests by digest,
	// "resolve" together with "pull" resolves tags to digests, which otherwise the upstream does.
	// Defaults to ["pull"].
	// +optional
	Capabilities []Capability `json:"capabilities,omitempty"`
	// CABundleSecretReferenceName is the name of the entry in the Shoot's spec.resources that references the Secret with
	// the CA certificates with which nodes verify the mirror, in addition to public ones. The Secret must be immutable and
	// have exactly the key "bundle.crt" with certificates in PEM and nothing else. All hosts together can reference at
	// most 10 different entries.
	// +optional
	CABundleSecretReferenceName *string `json:"caBundleSecretReferenceName,omitempty"`
	// OverridePath uses the path of the URL as it is. Otherwise, "/v2" is appended to a path that does not end with it.
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
