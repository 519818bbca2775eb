// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package v1alpha3 is version v1alpha3 of the API group registry.extensions.gardener.cloud: the providerConfig and the
// provider status of the registry-cache extension.
//
// +k8s:deepcopy-gen=package
// +k8s:conversion-gen=github.com/larder-project/larder/pkg/apis/registry
// +k8s:defaulter-gen=TypeMeta
// +groupName=registry.extensions.gardener.cloud
package v1alpha3
