// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	fakedbus "github.com/gardener/gardener/pkg/nodeagent/dbus/fake"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/spf13/afero"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/webhook/osc/osctest"
	"github.com/larder-project/larder/test/nodewebhook"
	"github.com/larder-project/larder/test/pki"
	"github.com/larder-project/larder/test/systemd"
)

const (
	unitFile   = "/etc/systemd/system/registry-cache-hosts.service"
	clientFile = "/etc/containerd/registry-cache-client.pem"
	agentHosts = "# managed by gardener-node-agent\n"
	unitHosts  = "# managed by registry-cache-hosts.service\n"
)

var _ = Describe("A node with caches", func() {
	var (
		ctx       context.Context
		root      string
		services  *systemd.DBus
		machine   *machine
		authority *pki.Authority
		endpoint  string
		hosts     string
		listener  net.Listener
	)

	BeforeEach(func(specContext SpecContext) {
		ctx = specContext
		root = GinkgoT().TempDir()
		hosts = filepath.Join(root, certificates, "docker.io/hosts.toml")
		services = systemd.New(root, GinkgoWriter,
			"REGISTRY_CACHE_DIRECTORY="+filepath.Join(root, "etc/containerd/registry-cache"),
			"REGISTRIES_DIRECTORY="+filepath.Join(root, certificates),
		)
		DeferCleanup(services.Shutdown)
		machine = newMachine(afero.NewBasePathFs(afero.NewOsFs(), root), services)
		var err error
		authority, err = pki.NewAuthority("caches")
		Expect(err).NotTo(HaveOccurred())
		listener = serve("127.0.0.1:0")
		endpoint = "https://" + listener.Addr().String()
	})

	withCache := func(mode registry.AccessMode) *extensionsv1alpha1.OperatingSystemConfig {
		GinkgoHelper()
		object := nodewebhook.NewOSC()
		addCache(ctx, object, nodewebhook.Cache{Endpoint: endpoint, Authority: authority, Mode: mode})
		return object
	}
	// byAgent returns an OperatingSystemConfig with which the node agent writes the hosts.toml of the cache.
	byAgent := func() *extensionsv1alpha1.OperatingSystemConfig {
		GinkgoHelper()
		object := nodewebhook.NewOSC()
		osctest.Rewriter(object)
		addCache(ctx, object, nodewebhook.Cache{Endpoint: endpoint, Authority: authority})
		return object
	}
	path := func(name string) string { return filepath.Join(root, name) }
	content := func() string {
		data, err := os.ReadFile(hosts)
		if err != nil {
			return err.Error()
		}
		return string(data)
	}

	It("uses a cache while it responds, and completes its update without it", func() {
		Expect(listener.Close()).To(Succeed())
		machine.apply(ctx, withCache(""))
		Consistently(hosts, 2*time.Second).ShouldNot(BeAnExistingFile())

		serve(listener.Addr().String())
		Eventually(content, 10*time.Second).Should(And(HavePrefix(unitHosts), ContainSubstring(endpoint), ContainSubstring("dial_timeout = '200ms'")))
	})

	It("goes over from the node agent's hosts.toml to the unit's and back", func() {
		for range 2 {
			machine.apply(ctx, byAgent())
			Expect(content()).To(And(HavePrefix(agentHosts), ContainSubstring(osctest.RewriterURL)))
			Expect(path(unitFile)).NotTo(BeAnExistingFile())
			Consistently(content, 3*time.Second).Should(HavePrefix(agentHosts))

			machine.apply(ctx, withCache(""))
			Eventually(content, 10*time.Second).Should(And(HavePrefix(unitHosts), Not(ContainSubstring(osctest.RewriterURL))))
		}
	})

	It("presents a client certificate in the mode Nodes, and always has a hosts.toml whose files exist", func() {
		machine.apply(ctx, withCache(""))
		Eventually(hosts, 10*time.Second).Should(BeARegularFile())
		services.Actions = nil
		ctx, cancel := context.WithCancel(ctx)
		var missing []string
		done := make(chan struct{})
		go func() {
			defer close(done)
			for ctx.Err() == nil {
				// Read hosts.toml again afterwards: the files of one that is gone by then may be gone as well.
				before := content()
				if !strings.HasPrefix(before, unitHosts) {
					missing = append(missing, before)
				}
				for _, name := range references(before) {
					if _, err := os.Stat(path(name)); err != nil && content() == before {
						missing = append(missing, name)
					}
				}
			}
		}()
		for range 3 {
			machine.apply(ctx, withCache(registry.AccessNodes))
			Eventually(content, 10*time.Second).Should(ContainSubstring("client = '" + clientFile + "'"))
			info, err := os.Stat(path(clientFile))
			Expect(err).NotTo(HaveOccurred())
			Expect(info.Mode().Perm()).To(BeEquivalentTo(0o600))

			machine.apply(ctx, withCache(""))
			Eventually(content, 10*time.Second).Should(And(HavePrefix(unitHosts), Not(ContainSubstring("client"))))
			Expect(path(clientFile)).NotTo(BeAnExistingFile())
		}
		cancel()
		<-done
		Expect(missing).To(BeEmpty())
		Expect(services.Actions).To(ContainElement(fakedbus.SystemdAction{Action: fakedbus.ActionRestart, UnitNames: []string{"registry-cache-hosts.service"}}))
		Expect(services.Actions).NotTo(ContainElement(HaveField("UnitNames", ContainElement("containerd.service"))))
	})

	It("is as before when the extension is removed", func() {
		machine.apply(ctx, nodewebhook.NewOSC())
		machine.apply(ctx, withCache(registry.AccessNodes))
		Eventually(hosts, 10*time.Second).Should(BeARegularFile())

		machine.apply(ctx, nodewebhook.NewOSC())
		for _, name := range []string{certificates + "/docker.io", certificates + "/ca-bundle.pem", unitFile, clientFile, "/opt/bin/registry-cache-hosts.sh"} {
			Expect(path(name)).NotTo(BeAnExistingFile(), name)
		}
		Expect(filepath.Glob(path("/etc/containerd/registry-cache/*"))).To(BeEmpty())
		Consistently(hosts, 3*time.Second).ShouldNot(BeAnExistingFile())
	})
})

// serve responds to each connection like a server with TLS to a request without.
func serve(address string) net.Listener {
	GinkgoHelper()
	listener, err := net.Listen("tcp", address)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { _ = listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = connection.Write([]byte("HTTP/1.0 400 Bad Request\r\n\r\n"))
			_, _ = connection.Read(make([]byte, 1<<10))
			_ = connection.Close()
		}
	}()
	return listener
}
