// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package cluster holds the settings of every process of a landscape: the
// flags, configuration files, certificates and kubeconfigs of one single-node
// cluster with Gardener's API.
package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/supervisor"
)

// The roles that the landscape's own program plays, by process and argument.
const (
	DNS       = "dns"
	Volumes   = "volumes"
	Upstreams = "upstreams"
	Gardenlet = "gardenlet"
)

// Settings is everything that decides how the processes run.
type Settings struct {
	// PauseImage is the image that holds a pod's namespaces.
	PauseImage string
	// Parts are the paths that the programs were built at: they change with
	// the versions.
	Parts map[string]string
}

// settings carries what the definitions of the processes need.
type settings struct {
	*landscape.Landscape
	Settings
}

// Files returns the content of every file that the settings lead to, by path
// below the landscape's folder. Equal files mean an equal cluster. Certificates
// and kubeconfigs are not among them, see WriteCredentials.
func Files(l *landscape.Landscape, given Settings) (map[string][]byte, error) {
	s := settings{l, given}
	files := map[string][]byte{}
	for path, render := range map[string]func() ([]byte, error){
		"config/parts.json":                       func() ([]byte, error) { return json.MarshalIndent(s.Parts, "", "  ") },
		"config/processes.json":                   func() ([]byte, error) { return json.MarshalIndent(s.specs(), "", "  ") },
		"config/cni/10-landscape.conflist":        s.cniConfig,
		"config/containerd.toml":                  s.containerdConfig,
		"config/kubelet.yaml":                     s.kubeletConfig,
		"config/kube-proxy.yaml":                  s.kubeProxyConfig,
		"config/gardener-controller-manager.yaml": s.gardenerControllerManagerConfig,
		"config/gardener-resource-manager.yaml":   s.gardenerResourceManagerConfig,
	} {
		content, err := render()
		if err != nil {
			return nil, fmt.Errorf("render %s: %w", path, err)
		}
		files[path] = content
	}
	return files, nil
}

// specs defines all processes.
func (s settings) specs() []supervisor.Spec {
	return []supervisor.Spec{
		s.etcd(),
		s.kubeAPIServer(),
		s.kubeControllerManager(),
		s.kubeScheduler(),
		s.containerd(),
		s.kubelet(),
		s.kubeProxy(),
		s.gardenerAPIServer(),
		s.gardenerControllerManager(),
		s.gardenerResourceManager(),
		s.role(DNS, "tcp://"+s.IP()+":53"),
		s.role(Upstreams, fmt.Sprintf("tcp://%s:%d", s.IP(), landscape.PrivatePort)),
		s.role(Volumes, "http://"+VolumesHealthAddress+"/readyz"),
		s.role(Gardenlet, ""),
	}
}

// LoadSpecs reads the processes that Files defined.
func LoadSpecs(l *landscape.Landscape) ([]supervisor.Spec, error) {
	content, err := os.ReadFile(filepath.Join(l.ConfigDir(), "processes.json"))
	if err != nil {
		return nil, err
	}
	var specs []supervisor.Spec
	return specs, json.Unmarshal(content, &specs)
}

// part defines a process that runs a program that was built by package parts.
func (s settings) part(name string, ready string, args ...string) supervisor.Spec {
	return supervisor.Spec{
		Name:  name,
		Path:  filepath.Join(s.BinDir(), name),
		Args:  args,
		Env:   s.Environment(),
		Ready: ready,
	}
}

// role defines a process that runs the landscape's own program.
func (s settings) role(name string, ready string) supervisor.Spec {
	return supervisor.Spec{Name: name, Path: s.Program(), Args: []string{name}, Env: s.Environment(), Ready: ready}
}

func (s settings) config(name string) string { return filepath.Join(s.ConfigDir(), name) }

func (s settings) apiServerURL() string {
	return fmt.Sprintf("https://%s:%d", s.IP(), landscape.APIServerPort)
}
