// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package cluster defines every process of a landscape: the flags, configuration files, certificates and kubeconfigs of
// a single-node cluster with Gardener's API.
package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/supervisor"
)

// The roles of the landscape's own program, by process and argument.
const (
	DNS       = "dns"
	Volumes   = "volumes"
	Upstreams = "upstreams"
	Gardenlet = "gardenlet"
)

// Settings are the inputs of all definitions.
type Settings struct {
	// PauseImage is the image that holds the namespaces of a pod.
	PauseImage string
	// Parts are the paths of the built programs, which change with the versions.
	Parts map[string]string
}

// settings are the inputs of the definitions of processes.
type settings struct {
	*landscape.Landscape
	Settings
}

// Files returns the content of every file that the settings determine, by its path in the landscape's directory. Equal
// files mean an equal cluster. WriteCredentials writes certificates and kubeconfigs.
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

// LoadSpecs reads the processes that Files has defined.
func LoadSpecs(l *landscape.Landscape) ([]supervisor.Spec, error) {
	content, err := os.ReadFile(filepath.Join(l.ConfigDir(), "processes.json"))
	if err != nil {
		return nil, err
	}
	var specs []supervisor.Spec
	return specs, json.Unmarshal(content, &specs)
}

// part defines a process that runs a program built by package parts.
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
