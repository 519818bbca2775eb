// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

//go:build programs

// Package containerd pins containerd's programs. The module is separate from the cluster's because containerd 2.4
// implements a newer runtime interface (k8s.io/cri-api v0.37) than that of the kubelet in Kubernetes 1.36.
package containerd

import (
	_ "github.com/containerd/containerd/v2/cmd/containerd"
	_ "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"
	_ "github.com/containerd/containerd/v2/cmd/ctr"
)
