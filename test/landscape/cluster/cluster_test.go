// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto/tls"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/pelletier/go-toml"
	"sigs.k8s.io/yaml"

	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/parts"
	"github.com/larder-project/larder/test/landscape/supervisor"
)

var _ = Describe("Settings of a cluster", func() {
	var (
		l     *landscape.Landscape
		given Settings
	)

	files := func() map[string][]byte {
		GinkgoHelper()
		files, err := Files(l, given)
		Expect(err).NotTo(HaveOccurred())
		return files
	}
	specs := func() map[string]supervisor.Spec {
		GinkgoHelper()
		Expect(os.MkdirAll(l.ConfigDir(), 0o750)).To(Succeed())
		Expect(os.WriteFile(filepath.Join(l.ConfigDir(), "processes.json"), files()["config/processes.json"], 0o600)).To(Succeed())
		all, err := LoadSpecs(l)
		Expect(err).NotTo(HaveOccurred())
		byName := map[string]supervisor.Spec{}
		for _, spec := range all {
			Expect(byName).NotTo(HaveKey(spec.Name))
			byName[spec.Name] = spec
		}
		return byName
	}

	BeforeEach(func() {
		GinkgoT().Setenv(landscape.DirVariable, GinkgoT().TempDir())
		var err error
		l, err = landscape.Open()
		Expect(err).NotTo(HaveOccurred())
		Expect(l.SetNetwork(landscape.Network{Subnet: netip.MustParsePrefix("192.0.2.0/30")})).To(Succeed())
		given = Settings{PauseImage: "larder.test/pause:1", Parts: map[string]string{parts.Etcd: "/cache/1/etcd"}}
	})

	It("are deterministic and change with their inputs", func() {
		before := files()
		Expect(files()).To(Equal(before))
		given.Parts[parts.Etcd] = "/cache/2/etcd"
		Expect(files()).NotTo(Equal(before))
	})

	It("define every process", func() {
		Expect(specs()).To(And(
			HaveLen(14),
			HaveKey(parts.Etcd), HaveKey(parts.KubeAPIServer), HaveKey(parts.KubeControllerManager),
			HaveKey(parts.KubeScheduler), HaveKey(parts.Kubelet), HaveKey(parts.KubeProxy), HaveKey(parts.Containerd),
			HaveKey(parts.GardenerAPIServer), HaveKey(parts.GardenerControllerManager), HaveKey(parts.GardenerResourceManager),
			HaveKey(DNS), HaveKey(Volumes), HaveKey(Upstreams), HaveKey(Gardenlet),
		))
	})

	It("give every process the address and the authority of the landscape", func() {
		for _, spec := range specs() {
			Expect(spec.Env).To(ContainElements(
				"SSL_CERT_FILE="+l.CAFile(),
				landscape.DirVariable+"="+l.Dir(),
				HavePrefix("PATH="+l.BinDir()+":"),
			), spec.Name)
		}
	})

	It("work without full privileges on the kernel", func() {
		config, err := toml.LoadBytes(files()["config/containerd.toml"])
		Expect(err).NotTo(HaveOccurred())
		get := func(path ...string) any { return config.GetPath(append([]string{"plugins"}, path...)) }
		Expect(get("io.containerd.cri.v1.runtime", "restrict_oom_score_adj")).To(BeTrue())
		Expect(get("io.containerd.cri.v1.images", "pinned_images", "sandbox")).To(Equal("larder.test/pause:1"))
		Expect(get("io.containerd.cri.v1.images", "registry", "config_path")).To(Equal("/etc/containerd/certs.d"))
	})

	It("separate the control groups of landscapes", func() {
		var config struct{ CgroupRoot string }
		Expect(yaml.Unmarshal(files()["config/kubelet.yaml"], &config)).To(Succeed())
		Expect(config.CgroupRoot).To(Equal("/" + l.ID()))
	})

	It("refer only to files that exist", func() {
		for _, dir := range []string{l.PKIDir(), l.ConfigDir()} {
			Expect(os.MkdirAll(dir, 0o750)).To(Succeed())
		}
		Expect(WriteCredentials(l)).To(Succeed())
		rendered := files()
		for _, spec := range specs() {
			for _, arg := range spec.Args {
				_, path, ok := strings.Cut(arg, "="+l.Dir()+"/")
				if !ok {
					continue
				}
				if _, isRendered := rendered[path]; !isRendered {
					Expect(filepath.Join(l.Dir(), path)).To(BeAnExistingFile(), "%s of %s", arg, spec.Name)
				}
			}
		}
		_, err := tls.LoadX509KeyPair(filepath.Join(l.PKIDir(), "kube-apiserver.crt"), filepath.Join(l.PKIDir(), "kube-apiserver.key"))
		Expect(err).NotTo(HaveOccurred())
		config, err := l.RESTConfig()
		Expect(err).NotTo(HaveOccurred())
		Expect(config.Host).To(Equal("https://192.0.2.2:6443"))
	})
})
