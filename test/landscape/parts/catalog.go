// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package parts builds every program that runs in the landscape: Kubernetes, etcd, containerd and Gardener from their
// Go modules, and the programs of this repository. It also builds Prometheus, which only tests need.
//
// A cold build is most of a first "make up", and compiling anything twice is expensive: all Go modules involved select
// the same version of whatever they share, and programs that share most of their code are linked into one.
package parts

// Names of the programs from other repositories.
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
	Prometheus                = "prometheus"
	Promtool                  = "promtool"
	Crane                     = "crane"
)

// Names of this repository's own programs.
const (
	Landscape   = "landscape"
	Extension   = "gardener-extension-registry-cache"
	Admission   = "gardener-extension-registry-cache-admission"
	CacheServer = "registry-cache-server"
	PullSecrets = "registry-cache-pull-secrets"
	Demo        = "demo"
	Pause       = "pause"
	// PrometheusConfig stands in for prometheus-operator.
	PrometheusConfig = "prometheus-config"
)

// program is a main package and its names.
type program struct {
	pkg string
	// names are the names of the program; the name under which it is called selects what it does.
	names []string
	// version is the Go module whose version the program reports. Clients of the API server read it, and
	// gardener-controller-manager rejects an API server without one.
	version string
}

// module is a Go module with programs.
type module struct {
	// name is the directory of the go.mod below this package's; the repository's own module has no name.
	name     string
	programs []program
	// tags are build tags.
	tags []string
	// testOnly means that a landscape runs without these programs, so that a first "make up" does not build them.
	testOnly bool
}

const (
	own     = "github.com/larder-project/larder/"
	foreign = own + "test/landscape/parts/"
)

// catalog has the modules in the order of their builds, which begins with those of this repository.
var catalog = []module{
	{
		programs: []program{
			{pkg: own + "test/landscape/cmd/landscape", names: []string{Landscape}},
			{pkg: own + "cmd/" + Extension, names: []string{Extension}},
			{pkg: own + "cmd/" + Admission, names: []string{Admission}},
			{pkg: own + "cmd/" + CacheServer, names: []string{CacheServer}},
			{pkg: own + "cmd/" + PullSecrets, names: []string{PullSecrets}},
			{pkg: own + "test/landscape/cmd/demo", names: []string{Demo}},
			{pkg: own + "test/landscape/cmd/pause", names: []string{Pause}},
		},
	},
	{
		name: "cluster",
		programs: []program{
			{
				pkg:     foreign + "cluster/kubernetes",
				names:   []string{Etcd, KubeAPIServer, KubeControllerManager, KubeScheduler, KubeProxy, Kubelet, Kubectl},
				version: "k8s.io/kubernetes",
			},
			{
				pkg:     foreign + "cluster/gardener",
				names:   []string{GardenerAPIServer, GardenerControllerManager, GardenerResourceManager},
				version: "github.com/gardener/gardener",
			},
		},
	},
	{
		name: "containerd",
		programs: []program{
			{pkg: "github.com/containerd/containerd/v2/cmd/containerd", names: []string{Containerd}},
			{pkg: "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2", names: []string{ContainerdShim}},
			{pkg: "github.com/containerd/containerd/v2/cmd/ctr", names: []string{Ctr}},
		},
	},
	{
		// A client of registries, of the version in go.mod.
		testOnly: true,
		programs: []program{{pkg: "github.com/google/go-containerregistry/cmd/crane", names: []string{Crane}}},
	},
	{
		name:     "prometheus",
		testOnly: true,
		// Without them, the programs link the clients of every cloud.
		tags: []string{"remove_all_sd", "enable_kubernetes_sd"},
		programs: []program{
			{pkg: "github.com/prometheus/prometheus/cmd/prometheus", names: []string{Prometheus}},
			{pkg: "github.com/prometheus/prometheus/cmd/promtool", names: []string{Promtool}},
			{pkg: foreign + "prometheus/prometheus-config", names: []string{PrometheusConfig}},
		},
	},
}

// All returns the names of all programs.
func All() []string {
	return names(func(module) bool { return true })
}

// Needed returns the names of the programs that a landscape needs.
func Needed() []string {
	return names(func(m module) bool { return !m.testOnly })
}

// External returns the names of the programs from other repositories that a landscape needs.
func External() []string {
	return names(func(m module) bool { return !m.testOnly && m.name != "" })
}

func names(include func(module) bool) []string {
	var names []string
	for _, module := range catalog {
		if include(module) {
			names = append(names, module.names()...)
		}
	}
	return names
}

func (m module) names() []string {
	var names []string
	for _, program := range m.programs {
		names = append(names, program.names...)
	}
	return names
}
