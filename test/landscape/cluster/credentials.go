// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/pki"
)

// Names of the certificates and of the users that present them.
const (
	authorityName               = "ca"
	serviceAccounts             = "service-accounts"
	frontProxyUser              = "front-proxy"
	kubeAPIServerUser           = "kube-apiserver"
	kubeControllerManagerUser   = "kube-controller-manager"
	kubeSchedulerUser           = "kube-scheduler"
	kubeletUser                 = "kubelet"
	kubeProxyUser               = "kube-proxy"
	gardenerAPIServerUser       = "gardener-apiserver"
	gardenerResourceManagerUser = "gardener-resource-manager"
	adminUser                   = "admin"
)

// VolumesHealthAddress is the address of the readiness endpoint of the role Volumes.
const VolumesHealthAddress = "127.0.0.1:9808"

const administrators = "system:masters"

// requests lists all certificates.
func (s settings) requests() map[string]pki.Request {
	return map[string]pki.Request{
		adminUser:                 {CommonName: "landscape-admin", Organizations: []string{administrators}},
		serviceAccounts:           {CommonName: serviceAccounts},
		frontProxyUser:            {CommonName: frontProxyUser},
		kubeControllerManagerUser: {CommonName: "system:kube-controller-manager"},
		kubeSchedulerUser:         {CommonName: "system:kube-scheduler"},
		kubeProxyUser:             {CommonName: "system:kube-proxy"},
		kubeAPIServerUser: {
			CommonName:    kubeAPIServerUser,
			Organizations: []string{administrators}, // It is also a client of the kubelet.
			Hosts: []string{
				s.IP(), "127.0.0.1", landscape.KubernetesServiceIP, "localhost",
				"kubernetes", "kubernetes.default", "kubernetes.default.svc",
				"kubernetes.default.svc." + landscape.ClusterDomain,
				landscape.ControlPlaneHost,
			},
		},
		kubeletUser: {
			CommonName:    "system:node:" + landscape.NodeName,
			Organizations: []string{"system:nodes"},
			Hosts:         []string{landscape.NodeName, s.IP(), "127.0.0.1"},
		},
		gardenerAPIServerUser: {
			CommonName: gardenerAPIServerUser,
			Hosts:      []string{gardenerServiceName + "." + gardenNamespace + ".svc", "localhost", "127.0.0.1"},
		},
		gardenerResourceManagerUser: {
			CommonName: gardenerResourceManagerUser,
			Hosts:      []string{"localhost", "127.0.0.1"},
		},
	}
}

// WriteCredentials creates the certificate authority, all certificates and the kubeconfigs of a new landscape.
func WriteCredentials(l *landscape.Landscape) error {
	s := settings{Landscape: l}
	authority, err := pki.NewAuthority(l.ID())
	if err != nil {
		return err
	}
	if err := s.writePair(authorityName, authority.Pair); err != nil {
		return err
	}
	for name, request := range s.requests() {
		pair, err := authority.Issue(request)
		if err != nil {
			return err
		}
		if err := s.writePair(name, pair); err != nil {
			return err
		}
	}
	for user, path := range map[string]string{
		adminUser:                 l.AdminKubeconfig(),
		kubeControllerManagerUser: s.kubeconfig(kubeControllerManagerUser),
		kubeSchedulerUser:         s.kubeconfig(kubeSchedulerUser),
		kubeletUser:               s.kubeconfig(kubeletUser),
		kubeProxyUser:             s.kubeconfig(kubeProxyUser),
	} {
		if err := s.writeKubeconfig(user, path); err != nil {
			return err
		}
	}
	return nil
}

// writePair writes a certificate and its key twice: by name, and in a directory under the file names that programs
// expect.
func (s settings) writePair(name string, pair pki.Pair) error {
	if err := os.MkdirAll(s.tlsDir(name), 0o700); err != nil {
		return err
	}
	for path, content := range map[string][]byte{
		s.certificate(name):                      pair.Certificate,
		s.key(name):                              pair.Key,
		filepath.Join(s.tlsDir(name), "tls.crt"): pair.Certificate,
		filepath.Join(s.tlsDir(name), "tls.key"): pair.Key,
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// writeKubeconfig writes a self-contained kubeconfig, which can be copied anywhere.
func (s settings) writeKubeconfig(user, path string) error {
	ca, err := os.ReadFile(s.CAFile())
	if err != nil {
		return err
	}
	certificate, err := os.ReadFile(s.certificate(user))
	if err != nil {
		return err
	}
	key, err := os.ReadFile(s.key(user))
	if err != nil {
		return err
	}
	const name = "landscape"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: s.apiServerURL(), CertificateAuthorityData: ca}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: certificate, ClientKeyData: key}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: user}
	config.CurrentContext = name
	return clientcmd.WriteToFile(*config, path)
}

func (s settings) certificate(name string) string { return filepath.Join(s.PKIDir(), name+".crt") }

func (s settings) key(name string) string { return filepath.Join(s.PKIDir(), name+".key") }

func (s settings) tlsDir(name string) string { return filepath.Join(s.PKIDir(), name) }

func (s settings) kubeconfig(user string) string {
	return filepath.Join(s.ConfigDir(), user+".kubeconfig")
}
