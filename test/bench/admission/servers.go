// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/gardener/gardener/pkg/client/kubernetes"
	gardenerenvtest "github.com/gardener/gardener/test/envtest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// servers are the API servers of a garden.
type servers struct {
	client     client.Client
	kubeconfig []byte
	stop       func() error
}

func startServers() (_ *servers, err error) {
	environment := &gardenerenvtest.GardenerTestEnvironment{
		GardenerAPIServer: &gardenerenvtest.GardenerAPIServer{Args: []string{
			"--log-level=error",
			// This plugin checks the permission for each Secret, at most 5 times per second.
			"--disable-admission-plugins=ResourceReferenceManager",
		}},
	}
	config, err := environment.Start()
	if err != nil {
		return nil, fmt.Errorf("start API servers: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, environment.Stop())
		}
	}()
	config.QPS = -1
	c, err := client.New(config, client.Options{Scheme: kubernetes.GardenScheme})
	if err != nil {
		return nil, err
	}
	user, err := environment.ControlPlane.AddUser(envtest.User{Name: "admission", Groups: []string{"system:masters"}}, nil)
	if err != nil {
		return nil, err
	}
	kubeconfig, err := user.KubeConfig()
	if err != nil {
		return nil, err
	}
	return &servers{client: c, kubeconfig: kubeconfig, stop: environment.Stop}, nil
}
