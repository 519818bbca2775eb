// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package parts builds the programs that the landscape starts but this
// repository does not contain: Kubernetes, etcd, containerd and Gardener. Each
// family is pinned by a Go module of its own in a folder beside this file and
// built once into a cache outside the repository.
package parts

// Names of the programs.
const (
	Etcd                      = "etcd"
	KubeAPIServer             = "kube-apiserver"
	KubeControllerManager     = "kube-controller-manager"
	KubeScheduler             = "kube-scheduler"
	KubeProxy                 = "kube-proxy"
	Kubelet                   = "kubelet"
	Kubectl                   = "kubectl"
	Containerd                = "containerd"
	ContainerdShim            = "containerd-shim-runc-v2"
	Ctr                       = "ctr"
	GardenerAPIServer         = "gardener-apiserver"
	GardenerControllerManager = "gardener-controller-manager"
	GardenerResourceManager   = "gardener-resource-manager"
)

// family is a set of programs that are pinned by one Go module.
type family struct {
	// name is the folder of the Go module.
	name string
	// module is the Go module whose version the programs report: the API
	// server's clients read it, and gardener-controller-manager refuses an API
	// server without one.
	module string
	// programs are the programs' names and packages.
	programs []program
}

type program struct {
	name string
	path string
	// output is the file name that go build chooses, if not the name.
	output string
}

func (p program) file() string {
	if p.output != "" {
		return p.output
	}
	return p.name
}

var catalog = []family{
	{
		name:   "kubernetes",
		module: "k8s.io/kubernetes",
		programs: []program{
			{name: Etcd, path: "go.etcd.io/etcd/server/v3", output: "server"},
			{name: KubeAPIServer, path: "k8s.io/kubernetes/cmd/kube-apiserver"},
			{name: KubeControllerManager, path: "k8s.io/kubernetes/cmd/kube-controller-manager"},
			{name: KubeScheduler, path: "k8s.io/kubernetes/cmd/kube-scheduler"},
			{name: KubeProxy, path: "k8s.io/kubernetes/cmd/kube-proxy"},
			{name: Kubelet, path: "k8s.io/kubernetes/cmd/kubelet"},
			{name: Kubectl, path: "k8s.io/kubernetes/cmd/kubectl"},
		},
	},
	{
		name:   "containerd",
		module: "github.com/containerd/containerd/v2",
		programs: []program{
			{name: Containerd, path: "github.com/containerd/containerd/v2/cmd/containerd"},
			{name: ContainerdShim, path: "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"},
			{name: Ctr, path: "github.com/containerd/containerd/v2/cmd/ctr"},
		},
	},
	{
		name:   "gardener",
		module: "github.com/gardener/gardener",
		programs: []program{
			{name: GardenerAPIServer, path: "github.com/gardener/gardener/cmd/gardener-apiserver"},
			{name: GardenerControllerManager, path: "github.com/gardener/gardener/cmd/gardener-controller-manager"},
			{name: GardenerResourceManager, path: "github.com/gardener/gardener/cmd/gardener-resource-manager"},
		},
	},
}

// All returns the names of all programs.
func All() []string {
	var names []string
	for _, family := range catalog {
		for _, program := range family.programs {
			names = append(names, program.name)
		}
	}
	return names
}
