// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 is version v1alpha1 of the API group mirror.extensions.gardener.cloud: the providerConfig of the
// registry-mirror extension.
//
// +k8s:deepcopy-gen=package
// +k8s:conversion-gen=github.com/larder-project/larder/pkg/apis/mirror
// +k8s:defaulter-gen=TypeMeta
// +groupName=mirror.extensions.gardener.cloud
package v1alpha1
