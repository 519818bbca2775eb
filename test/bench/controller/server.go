// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	resourcemanagerclient "github.com/gardener/gardener/pkg/resourcemanager/client"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/larder-project/larder/test/integration/audit"
	"github.com/larder-project/larder/test/integration/seed"
)

const (
	// shootUser is the prefix of the names of the extension's users in Shoots.
	shootUser = "gardener:"
	// shootGroup is the group of these users.
	shootGroup = "gardener"
)

// server is an API server that is that of the seed and of all Shoots. The user tells the requests apart.
type server struct {
	directory   string
	environment *envtest.Environment
	config      *rest.Config
	client      client.Client
	audit       *audit.Log
}

// startServer starts an API server with the users of the extension in the seed and in the given Shoots.
func startServer(ctx context.Context, seedUser string, shoots []*shoot) (_ *server, err error) {
	s := &server{}
	if s.directory, err = os.MkdirTemp("", "bench-controller-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	var tokens strings.Builder
	fmt.Fprintf(&tokens, "%s,%s,seed\n", tokenOf(seedUser), seedUser)
	for _, shoot := range shoots {
		fmt.Fprintf(&tokens, "%s,%s,%s,\"system:masters,%s\"\n", tokenOf(shoot.user()), shoot.user(), shoot.namespace, shootGroup)
	}
	if err := os.WriteFile(s.file("tokens.csv"), []byte(tokens.String()), 0o600); err != nil {
		return nil, err
	}
	crds, err := seed.CRDs(ctx)
	if err != nil {
		return nil, err
	}
	s.environment = &envtest.Environment{CRDInstallOptions: envtest.CRDInstallOptions{Paths: crds}, ErrorIfCRDPathMissing: true}
	apiServer := s.environment.ControlPlane.GetAPIServer()
	apiServer.Configure().Set("token-auth-file", s.file("tokens.csv"))
	if s.audit, err = audit.Configure(apiServer, s.directory, []string{seedUser}, []string{shootGroup}); err != nil {
		return nil, err
	}
	if s.config, err = s.environment.Start(); err != nil {
		return nil, fmt.Errorf("start API server: %w", err)
	}
	s.config.QPS = -1
	s.client, err = client.New(s.config, client.Options{Scheme: resourcemanagerclient.CombinedScheme})
	return s, err
}

func (s *server) file(name string) string { return filepath.Join(s.directory, name) }

// kubeconfig returns a kubeconfig for a user. With an address, it is that of a server that is not this one.
func (s *server) kubeconfig(user, address string) ([]byte, error) {
	if address == "" {
		address = s.config.Host
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["bench"] = &clientcmdapi.Cluster{
		Server: address,
		// client-go shares connections between equal TLS configurations. Text outside of the PEM block makes them differ.
		CertificateAuthorityData: append([]byte("# "+user+"\n"), s.config.CAData...),
	}
	config.AuthInfos["bench"] = &clientcmdapi.AuthInfo{Token: tokenOf(user)}
	config.Contexts["bench"] = &clientcmdapi.Context{Cluster: "bench", AuthInfo: "bench"}
	config.CurrentContext = "bench"
	return clientcmd.Write(*config)
}

func tokenOf(user string) string { return "token-of-" + strings.ReplaceAll(user, ":", "-") }

func (s *server) stop() error {
	var err error
	if s.environment != nil {
		err = s.environment.Stop()
	}
	return errors.Join(err, os.RemoveAll(s.directory))
}
