// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/json"

	"github.com/pelletier/go-toml"
	"sigs.k8s.io/yaml"

	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/parts"
	"github.com/larder-project/larder/test/landscape/preflight"
	"github.com/larder-project/larder/test/landscape/supervisor"
)

// object is the content of a configuration file.
type object = map[string]any

func (s settings) containerd() supervisor.Spec {
	return s.part(parts.Containerd, "unix://"+landscape.ContainerdSocket,
		"--config="+s.config("containerd.toml"),
	)
}

func (s settings) containerdConfig() ([]byte, error) {
	tree, err := toml.TreeFromMap(object{
		"version": int64(3),
		"root":    "/var/lib/containerd",
		"state":   "/run/containerd",
		"grpc":    object{"address": landscape.ContainerdSocket},
		"plugins": object{
			"io.containerd.cri.v1.images": object{
				"pinned_images": object{"sandbox": s.PauseImage},
				"registry":      object{"config_path": "/etc/containerd/certs.d"},
			},
			"io.containerd.cri.v1.runtime": object{
				"cni": object{
					"bin_dirs": []string{preflight.CNIPluginDir},
					"conf_dir": s.config("cni"),
				},
				// Profiles would be loaded into the kernel and stay there.
				"disable_apparmor": true,
				// Root cannot lower this value in every container or VM.
				"restrict_oom_score_adj": true,
			},
			"io.containerd.nri.v1.nri": object{"disable": true},
		},
	})
	if err != nil {
		return nil, err
	}
	return tree.Marshal()
}

// cniConfig connects pods point to point: the node routes all their traffic, so that kube-proxy's rules see it on any
// kernel.
func (s settings) cniConfig() ([]byte, error) {
	return json.MarshalIndent(object{
		"cniVersion": "1.0.0",
		"name":       "landscape",
		"plugins": []object{
			{
				"type": "ptp",
				"ipam": object{
					"type":    "host-local",
					"dataDir": "/var/lib/cni/networks",
					"ranges":  [][]object{{{"subnet": landscape.PodCIDR}}},
					"routes":  []object{{"dst": "0.0.0.0/0"}},
				},
			},
			{"type": "portmap", "capabilities": object{"portMappings": true}},
		},
	}, "", "  ")
}

func (s settings) kubelet() supervisor.Spec {
	return s.part(parts.Kubelet, "http://127.0.0.1:10248/healthz",
		"--config="+s.config("kubelet.yaml"),
		"--kubeconfig="+s.kubeconfig(kubeletUser),
		"--hostname-override="+landscape.NodeName,
		"--node-ip="+s.IP(),
		"--node-labels=topology.kubernetes.io/region="+landscape.Region+",topology.kubernetes.io/zone="+landscape.Zone+
			",worker.gardener.cloud/pool=local,worker.gardener.cloud/system-components=true",
	)
}

func (s settings) kubeletConfig() ([]byte, error) {
	return yaml.Marshal(object{
		"apiVersion":               "kubelet.config.k8s.io/v1beta1",
		"kind":                     "KubeletConfiguration",
		"containerRuntimeEndpoint": "unix://" + landscape.ContainerdSocket,
		"clusterDNS":               []string{s.IP()},
		"clusterDomain":            landscape.ClusterDomain,
		"resolvConf":               "/etc/resolv.conf",
		"tlsCertFile":              s.certificate(kubeletUser),
		"tlsPrivateKeyFile":        s.key(kubeletUser),
		"authentication": object{
			"anonymous": object{"enabled": false},
			"webhook":   object{"enabled": true},
			"x509":      object{"clientCAFile": s.CAFile()},
		},
		"authorization": object{"mode": "Webhook"},
		// Each landscape has its own control group. Package cgroup creates it and handles the differences between the
		// versions.
		"cgroupDriver":           "cgroupfs",
		"cgroupRoot":             "/" + s.ID(),
		"enforceNodeAllocatable": []string{},
		"failCgroupV1":           false,
		"failSwapOn":             false,
		// By default, pods wait a minute for new contents of Secrets.
		"syncFrequency": "5s",
		// The statistics of volumes are up to a minute old by default.
		"volumeStatsAggPeriod": "5s",
		// The machine has other uses: do not evict pods or remove images because its disk is full.
		"evictionHard": object{
			"memory.available":   "50Mi",
			"nodefs.available":   "0%",
			"nodefs.inodesFree":  "0%",
			"imagefs.available":  "0%",
			"imagefs.inodesFree": "0%",
		},
		"imageGCHighThresholdPercent": 100,
		"registryPullQPS":             0,
		"serializeImagePulls":         false,
	})
}

func (s settings) kubeProxy() supervisor.Spec {
	return s.part(parts.KubeProxy, "http://127.0.0.1:10256/healthz",
		"--config="+s.config("kube-proxy.yaml"),
	)
}

func (s settings) kubeProxyConfig() ([]byte, error) {
	return yaml.Marshal(object{
		"apiVersion":         "kubeproxy.config.k8s.io/v1alpha1",
		"kind":               "KubeProxyConfiguration",
		"clientConnection":   object{"kubeconfig": s.kubeconfig(kubeProxyUser)},
		"clusterCIDR":        landscape.PodCIDR,
		"hostnameOverride":   landscape.NodeName,
		"mode":               "iptables",
		"metricsBindAddress": "127.0.0.1:10249",
		// These settings concern the whole machine.
		"conntrack": object{
			"maxPerCore":            0,
			"min":                   0,
			"tcpEstablishedTimeout": "0s",
			"tcpCloseWaitTimeout":   "0s",
		},
		"iptables": object{"localhostNodePorts": false},
	})
}
