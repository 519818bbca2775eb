// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"

	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"

	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/parts"
	"github.com/larder-project/larder/test/landscape/supervisor"
)

const (
	etcdURL = "http://127.0.0.1:2379"
	issuer  = "https://kubernetes.default.svc." + landscape.ClusterDomain
)

func (s settings) etcd() supervisor.Spec {
	return s.part(parts.Etcd, etcdURL+"/readyz",
		"--name=landscape",
		"--data-dir=/var/lib/etcd",
		"--listen-client-urls="+etcdURL,
		"--advertise-client-urls="+etcdURL,
		"--listen-peer-urls=http://127.0.0.1:2380",
		"--initial-advertise-peer-urls=http://127.0.0.1:2380",
		"--initial-cluster=landscape=http://127.0.0.1:2380",
		// A landscape does not survive a crash of its machine.
		"--unsafe-no-fsync",
	)
}

func (s settings) kubeAPIServer() supervisor.Spec {
	return s.part(parts.KubeAPIServer, s.apiServerURL()+"/readyz",
		"--advertise-address="+s.IP(),
		fmt.Sprintf("--secure-port=%d", landscape.APIServerPort),
		"--etcd-servers="+etcdURL,
		"--service-cluster-ip-range="+landscape.ServiceCIDR,
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--tls-cert-file="+s.certificate(kubeAPIServerUser),
		"--tls-private-key-file="+s.key(kubeAPIServerUser),
		"--client-ca-file="+s.CAFile(),
		"--kubelet-certificate-authority="+s.CAFile(),
		"--kubelet-client-certificate="+s.certificate(kubeAPIServerUser),
		"--kubelet-client-key="+s.key(kubeAPIServerUser),
		// Logs and proxied requests need no name resolution then.
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer="+issuer,
		// gardener-resource-manager requests tokens for Gardener's audience.
		"--api-audiences="+issuer+","+v1beta1constants.GardenerAudience,
		"--service-account-key-file="+s.certificate(serviceAccounts),
		"--service-account-signing-key-file="+s.key(serviceAccounts),
		// For requests to the aggregated gardener-apiserver.
		"--proxy-client-cert-file="+s.certificate(frontProxyUser),
		"--proxy-client-key-file="+s.key(frontProxyUser),
		"--requestheader-client-ca-file="+s.CAFile(),
		"--requestheader-allowed-names="+frontProxyUser,
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
	)
}

func (s settings) kubeControllerManager() supervisor.Spec {
	kubeconfig := s.kubeconfig(kubeControllerManagerUser)
	return s.part(parts.KubeControllerManager, "https://127.0.0.1:10257/healthz",
		"--bind-address=127.0.0.1",
		"--kubeconfig="+kubeconfig,
		"--authentication-kubeconfig="+kubeconfig,
		"--authorization-kubeconfig="+kubeconfig,
		"--leader-elect=false",
		"--use-service-account-credentials=true",
		"--service-account-private-key-file="+s.key(serviceAccounts),
		"--root-ca-file="+s.CAFile(),
		"--cluster-signing-cert-file="+s.CAFile(),
		"--cluster-signing-key-file="+s.key(authorityName),
		// The CNI plugin has the address range of the only node.
		"--allocate-node-cidrs=false",
	)
}

func (s settings) kubeScheduler() supervisor.Spec {
	kubeconfig := s.kubeconfig(kubeSchedulerUser)
	return s.part(parts.KubeScheduler, "https://127.0.0.1:10259/healthz",
		"--bind-address=127.0.0.1",
		"--kubeconfig="+kubeconfig,
		"--authentication-kubeconfig="+kubeconfig,
		"--authorization-kubeconfig="+kubeconfig,
		"--leader-elect=false",
	)
}
