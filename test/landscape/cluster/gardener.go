// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"

	"sigs.k8s.io/yaml"

	"github.com/larder-project/larder/test/landscape/parts"
	"github.com/larder-project/larder/test/landscape/supervisor"
)

// gardenerAPIServerPort is the port of gardener-apiserver for kube-apiserver.
const gardenerAPIServerPort = 8443

func (s settings) gardenerAPIServer() supervisor.Spec {
	kubeconfig := s.AdminKubeconfig()
	return s.part(parts.GardenerAPIServer, fmt.Sprintf("https://127.0.0.1:%d/readyz", gardenerAPIServerPort),
		"--bind-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", gardenerAPIServerPort),
		"--etcd-servers="+etcdURL,
		"--cluster-identity=landscape",
		"--kubeconfig="+kubeconfig,
		"--authentication-kubeconfig="+kubeconfig,
		"--authorization-kubeconfig="+kubeconfig,
		"--tls-cert-file="+s.certificate(gardenerAPIServerUser),
		"--tls-private-key-file="+s.key(gardenerAPIServerUser),
	)
}

func (s settings) gardenerControllerManager() supervisor.Spec {
	return s.part(parts.GardenerControllerManager, "http://127.0.0.1:2718/readyz",
		"--config="+s.config("gardener-controller-manager.yaml"),
	)
}

func (s settings) gardenerControllerManagerConfig() ([]byte, error) {
	return yaml.Marshal(object{
		"apiVersion":             "controllermanager.config.gardener.cloud/v1alpha1",
		"kind":                   "ControllerManagerConfiguration",
		"gardenClientConnection": object{"kubeconfig": s.AdminKubeconfig(), "qps": 100, "burst": 130},
		"leaderElection":         object{"leaderElect": false},
		"server": object{
			"healthProbes": object{"bindAddress": "127.0.0.1", "port": 2718},
			"metrics":      object{"bindAddress": "127.0.0.1", "port": 2719},
		},
	})
}

func (s settings) gardenerResourceManager() supervisor.Spec {
	return s.part(parts.GardenerResourceManager, "http://127.0.0.1:8081/readyz",
		"--config="+s.config("gardener-resource-manager.yaml"),
	)
}

// gardenerResourceManagerConfig makes one process serve ManagedResources of every class, because seed and shoot are the
// same cluster.
func (s settings) gardenerResourceManagerConfig() ([]byte, error) {
	client := object{"kubeconfig": s.AdminKubeconfig(), "qps": 100, "burst": 130}
	return yaml.Marshal(object{
		"apiVersion":             "resourcemanager.config.gardener.cloud/v1alpha1",
		"kind":                   "ResourceManagerConfiguration",
		"sourceClientConnection": client,
		"targetClientConnection": client,
		"leaderElection":         object{"leaderElect": false},
		"server": object{
			"healthProbes": object{"bindAddress": "127.0.0.1", "port": 8081},
			"metrics":      object{"bindAddress": "127.0.0.1", "port": 8080},
			// None of its webhooks is registered, but the process insists on serving them.
			"webhooks": object{
				"bindAddress": "127.0.0.1",
				"port":        9449,
				"tls":         object{"serverCertDir": s.tlsDir(gardenerResourceManagerUser)},
			},
		},
		"controllers": object{
			"resourceClass":    "*",
			"managedResources": object{"syncPeriod": "15s"},
			"health":           object{"syncPeriod": "15s"},
			"garbageCollector": object{"enabled": true},
			"tokenRequestor":   object{"enabled": true},
		},
	})
}
