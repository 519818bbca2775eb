// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package landscape describes a Gardener landscape on one machine: one cluster
// that plays garden, seed and shoot, of real parts, in namespaces of its own.
// The program in cmd/landscape brings it up and takes it down; this package is
// what everything that works on a running one needs to know about it.
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

// DirVariable is the environment variable that says where a landscape keeps
// its state. Without it that is dev/landscape in the repository.
const DirVariable = "LANDSCAPE_DIR"

// Facts that are the same in every landscape: nobody outside its namespaces
// sees them.
const (
	// Domain is the DNS domain whose names all resolve to the landscape.
	Domain = "larder.test"
	// NodeName is the name of the only node.
	NodeName = "node"
	// Region is where the node says it is.
	Region = "local"
	// Zone is where in the region.
	Zone = "local-a"
	// PodCIDR is where pods get their addresses.
	PodCIDR = "10.42.0.0/24"
	// ServiceCIDR is where Services get their cluster IPs.
	ServiceCIDR = "10.43.0.0/16"
	// KubernetesServiceIP is the cluster IP of the API server.
	KubernetesServiceIP = "10.43.0.1"
	// ClusterDomain ends the names of Services.
	ClusterDomain = "cluster.local"
	// APIServerPort is where the API server listens on IP.
	APIServerPort = 6443
	// PrivatePort is where the upstream registry that wants a token listens on IP.
	PrivatePort = 5443
	// TokenPort is where its token server listens.
	TokenPort = 5444
	// BasicPort is where the upstream registry that wants a password listens.
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

// Network is how the landscape is connected to its host.
type Network struct {
	// Subnet holds two addresses: the host's and, after it, the landscape's.
	Subnet netip.Prefix `json:"subnet"`
}

// Host returns the address of the host's end.
func (n Network) Host() netip.Addr { return n.Subnet.Masked().Addr().Next() }

// Inside returns the address of the landscape's end.
func (n Network) Inside() netip.Addr { return n.Host().Next() }

// Open returns the landscape that the environment names, or the repository's
// own. It need not run, nor exist.
func Open() (*Landscape, error) {
	repository, err := findRepository()
	if err != nil {
		return nil, err
	}
	dir := os.Getenv(DirVariable)
	if dir == "" {
		dir = filepath.Join(repository, "dev", "landscape")
	}
	dir, err = canonical(dir)
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

// SetNetwork records how the landscape is connected to its host.
func (l *Landscape) SetNetwork(network Network) error {
	content, err := json.Marshal(network)
	if err != nil {
		return err
	}
	l.network = network
	return os.WriteFile(l.networkFile(), append(content, '\n'), 0o600)
}

// Network returns how the landscape is connected to its host.
func (l *Landscape) Network() Network { return l.network }

// ID names what the landscape owns outside its folder. It is derived from the
// folder, so that landscapes of different checkouts keep apart.
func (l *Landscape) ID() string {
	sum := sha256.Sum256([]byte(l.dir))
	return "larder-" + hex.EncodeToString(sum[:])[:8]
}

// Dir returns the folder with the landscape's state.
func (l *Landscape) Dir() string { return l.dir }

// Repository returns the root of the repository.
func (l *Landscape) Repository() string { return l.repository }

// BinDir returns the folder with all programs.
func (l *Landscape) BinDir() string { return filepath.Join(l.dir, "bin") }

// Program returns the path of the landscape's own program, which is the first
// process inside and plays the roles that no real part plays.
func (l *Landscape) Program() string { return filepath.Join(l.BinDir(), "landscape") }

// LogDir returns the folder with a log for each process.
func (l *Landscape) LogDir() string { return filepath.Join(l.dir, "logs") }

// ConfigDir returns the folder with the configuration of each process.
func (l *Landscape) ConfigDir() string { return filepath.Join(l.dir, "config") }

// PKIDir returns the folder with certificates and keys.
func (l *Landscape) PKIDir() string { return filepath.Join(l.dir, "pki") }

// VarDir returns the folder that is /var/lib and /var/log inside.
func (l *Landscape) VarDir() string { return filepath.Join(l.dir, "var") }

// NodeRoot returns the folder that plays the root of the node's file system
// for whatever configures the node: containerd reads etc/containerd/certs.d
// below it.
func (l *Landscape) NodeRoot() string { return filepath.Join(l.dir, "node") }

// AdminKubeconfig returns the path of a kubeconfig that may do everything in
// the cluster, Gardener's API included.
func (l *Landscape) AdminKubeconfig() string { return filepath.Join(l.dir, "admin.kubeconfig") }

// RESTConfig returns what the admin kubeconfig says.
func (l *Landscape) RESTConfig() (*rest.Config, error) {
	return clientcmd.BuildConfigFromFlags("", l.AdminKubeconfig())
}

// IP returns the address that the host, the pods and the processes inside
// reach the landscape by.
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
