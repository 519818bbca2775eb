// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package shoottest helps tests to fake the API server of a Shoot.
package shoottest

import (
	"encoding/pem"
	"net/http/httptest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Namespace is the namespace of the Shoot in the seed.
const Namespace = "shoot--dev--example"

// Kubeconfig returns the Secret that gives extensions access to a Shoot with the given API server.
func Kubeconfig(server *httptest.Server) *corev1.Secret {
	config := clientcmdapi.NewConfig()
	config.Clusters["shoot"] = &clientcmdapi.Cluster{
		Server:                   server.URL,
		CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
	}
	config.AuthInfos["shoot"] = &clientcmdapi.AuthInfo{Token: "example"}
	config.Contexts["shoot"] = &clientcmdapi.Context{Cluster: "shoot", AuthInfo: "shoot"}
	config.CurrentContext = "shoot"
	data, err := clientcmd.Write(*config)
	if err != nil {
		panic(err) // The configuration is valid.
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: "gardener"},
		Data:       map[string][]byte{"kubeconfig": data},
	}
}
