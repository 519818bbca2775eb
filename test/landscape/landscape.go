// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package landscape describes a Gardener landscape on one machine: one cluster of real components, in namespaces of its
// own, that is garden, seed and shoot at once.
//
// The program in cmd/landscape starts and stops it; this package is the interface to a running one.
package landscape

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// DirVariable is the environment variable with the directory of the landscape's state, by default dev/landscape in the
// repository.
const DirVariable = "LANDSCAPE_DIR"

// Constants that all landscapes share, because they are only visible inside of their namespaces.
const (
	// Domain is the DNS domain whose names resolve to the landscape.
	Domain = "larder.test"
	// NodeName is the name of the only node.
	NodeName = "node"
	// Region is the region of the node.
	Region = "local"
	// Zone is the zone of the node.
	Zone = "local-a"
	// PodCIDR is the network of pods.
	PodCIDR = "10.42.0.0/24"
	// ServiceCIDR is the network of Services.
	ServiceCIDR = "10.43.0.0/16"
	// KubernetesServiceIP is the cluster IP of the API server.
	KubernetesServiceIP = "10.43.0.1"
	// ControlPlaneHost is the name of the API server among the components of a Shoot's control plane.
	ControlPlaneHost = "kube-apiserver"
	// ClusterDomain is the suffix of the names of Services.
	ClusterDomain = "cluster.local"
	// APIServerPort is the port of the API server on IP.
	APIServerPort = 6443
	// PrivatePort is the port of the upstream registry that requires a token, on IP.
	PrivatePort = 5443
	// TokenPort is the port of its token server.
	TokenPort = 5444
	// BasicPort is the port of the upstream registry that requires a password.
	BasicPort = 5445
	// ContainerdSocket is containerd's address inside the namespaces.
	ContainerdSocket = "/run/containerd/containerd.sock"
	// VolumesDir holds the persistent volumes, inside the namespaces.
	VolumesDir = "/var/lib/volumes"
)

// Landscape is one landscape, running or not.
type Landscape struct {
	dir        string
	repository string
	network    Network
}

// Network is the connection of the landscape to its host.
type Network struct {
	// Subnet holds two addresses: the host's, followed by the landscape's.
	Subnet netip.Prefix `json:"subnet"`
}

// Host returns the address of the host's end.
func (n Network) Host() netip.Addr { return n.Subnet.Masked().Addr().Next() }

// Inside returns the address of the landscape's end.
func (n Network) Inside() netip.Addr { return n.Host().Next() }

// Open returns the landscape that the environment names, or the repository's own. It need not run or exist.
func Open() (*Landscape, error) {
	repository, err := findRepository()
	if err != nil {
		return nil, err
	}
	dir := os.Getenv(DirVariable)
	if dir == "" {
		dir = filepath.Join(repository, "dev", "landscape")
	}
	return open(dir, repository)
}

// Sibling returns the nth landscape of those that run side by side, of which this one is the first. It need not run or
// exist.
func (l *Landscape) Sibling(n int) (*Landscape, error) {
	if n == 1 {
		return l, nil
	}
	return open(fmt.Sprintf("%s-%d", l.dir, n), l.repository)
}

func open(dir, repository string) (*Landscape, error) {
	dir, err := canonical(dir)
	if err != nil {
		return nil, err
	}

	l := &Landscape{dir: dir, repository: repository}
	content, err := os.ReadFile(l.networkFile())
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(content, &l.network); err != nil {
		return nil, fmt.Errorf("read %s: %w", l.networkFile(), err)
	}
	return l, nil
}

// SetNetwork stores the connection of the landscape to its host.
func (l *Landscape) SetNetwork(network Network) error {
	content, err := json.Marshal(network)
	if err != nil {
		return err
	}
	l.network = network
	return os.WriteFile(l.networkFile(), append(content, '\n'), 0o600)
}

// Network returns the connection of the landscape to its host.
func (l *Landscape) Network() Network { return l.network }

// ID is the name of everything that the landscape owns outside of its directory. It is derived from the directory, so
// that landscapes of different checkouts do not collide.
func (l *Landscape) ID() string {
	sum := sha256.Sum256([]byte(l.dir))
	return "larder-" + hex.EncodeToString(sum[:])[:8]
}

// Dir returns the directory of the landscape's state.
func (l *Landscape) Dir() string { return l.dir }

// Repository returns the root of the repository.
func (l *Landscape) Repository() string { return l.repository }

// BinDir returns the directory of all programs.
func (l *Landscape) BinDir() string { return filepath.Join(l.dir, "bin") }

// Program returns the path of the landscape's own program, which is the first process inside and the stand-in for
// components that are not real.
func (l *Landscape) Program() string { return filepath.Join(l.BinDir(), "landscape") }

// LogDir returns the directory of the logs, one for each process.
func (l *Landscape) LogDir() string { return filepath.Join(l.dir, "logs") }

// ConfigDir returns the directory of the processes' configuration.
func (l *Landscape) ConfigDir() string { return filepath.Join(l.dir, "config") }

// PKIDir returns the directory of certificates and keys.
func (l *Landscape) PKIDir() string { return filepath.Join(l.dir, "pki") }

// VarDir returns the directory that is /var/lib and /var/log inside.
func (l *Landscape) VarDir() string { return filepath.Join(l.dir, "var") }

// NodeRoot returns the directory that is the root of the node's file system for all components that configure the node:
// containerd reads etc/containerd/certs.d in it.
func (l *Landscape) NodeRoot() string { return filepath.Join(l.dir, "node") }

// AdminKubeconfig returns the path of a kubeconfig with all permissions in the cluster, including Gardener's API.
func (l *Landscape) AdminKubeconfig() string { return filepath.Join(l.dir, "admin.kubeconfig") }

// RESTConfig returns the configuration of the admin kubeconfig.
func (l *Landscape) RESTConfig() (*rest.Config, error) {
	return clientcmd.BuildConfigFromFlags("", l.AdminKubeconfig())
}

// IP returns the landscape's address for the host, the pods and the processes inside.
func (l *Landscape) IP() string {
	if !l.network.Subnet.IsValid() {
		return ""
	}
	return l.network.Inside().String()
}

// CAFile returns the path of the certificate of the landscape's private CA.
func (l *Landscape) CAFile() string { return filepath.Join(l.PKIDir(), "ca.crt") }

// CA returns the certificate and the key of the landscape's private CA in PEM.
func (l *Landscape) CA() (certificate, key []byte, err error) {
	if certificate, err = os.ReadFile(l.CAFile()); err != nil {
		return nil, nil, err
	}
	key, err = os.ReadFile(filepath.Join(l.PKIDir(), "ca.key"))
	return certificate, key, err
}

func (l *Landscape) networkFile() string { return filepath.Join(l.dir, "network.json") }
