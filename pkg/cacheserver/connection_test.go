// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver_test

import (
	"fmt"
	"path/filepath"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"

	"github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/test/forwardproxy"
	"github.com/larder-project/larder/test/landscape/upstream"
	"github.com/larder-project/larder/test/pki"
	"github.com/larder-project/larder/test/secretvolume"
	"github.com/larder-project/larder/test/upstreamsim"
)

// proxyPassword is the password of a forward proxy.
const proxyPassword = "an-obvious-proxy-password"

var _ = Describe("connection to the upstream", func() {

	It("uses the files that its configuration names, and follows them", func() {
		w := newWorld(func(o *upstream.Options) {
			o.Private.Host = "private.example.test"
			o.Token = upstreamsim.Endpoint{Listen: "127.0.0.1:0", Host: "auth.example.test"}
		})
		proxy, err := forwardproxy.Start(forwardproxy.Options{})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(proxy.Close)
		proxy.Accept(map[string]string{"v1": proxyPassword})
		client, err := w.authority.Issue(pki.Request{CommonName: "cache"})
		Expect(err).NotTo(HaveOccurred())
		dir := filepath.Join(w.dir, "connection")
		files := map[string][]byte{
			"bundle.crt": w.authority.Certificate, "tls.crt": client.Certificate, "tls.key": client.Key,
			"proxy-username": []byte("v1"), "proxy-password": []byte(proxyPassword),
		}
		Expect(secretvolume.Write(dir, files)).To(Succeed())
		c := w.config(upstream.Private)
		file := func(name string) string { return filepath.Join(dir, name) }
		c.Connection = config.Connection{
			CABundleFile:      file("bundle.crt"),
			ClientCertificate: &config.TLSFiles{CertificateFile: file("tls.crt"), KeyFile: file("tls.key")},
			ProxyUsernameFile: file("proxy-username"), ProxyPasswordFile: file("proxy-password"),
		}

		By("nothing but the files makes the server trust the upstream")
		cache := w.start(c, "SSL_CERT_FILE=/dev/null", "SSL_CERT_DIR=/dev/null", "HTTPS_PROXY="+proxy.URL())
		image := w.push(upstream.Private, app, 1024)
		Expect(cache.pull(app)).To(Equal(digestOf(image)))
		Expect(proxy.Hosts()).To(ConsistOf("private.example.test", "auth.example.test"))

		By("a new credential for the proxy")
		proxy.Accept(map[string]string{"v1": proxyPassword, "v2": proxyPassword})
		files["proxy-username"] = []byte("v2")
		Expect(secretvolume.Write(dir, files)).To(Succeed())
		pulls := 0
		Eventually(func() []forwardproxy.Request {
			pulls++
			repository := fmt.Sprintf("team/other:v%d", pulls)
			w.push(upstream.Private, repository, 1024)
			_, err := cache.pull(repository)
			Expect(err).NotTo(HaveOccurred())
			return proxy.Requests()
		}).Should(ContainElement(HaveField("Username", "v2")))
		Expect(cache.Err).To(gbytes.Say("Using changed files for connections to the upstream"))

		cache.expectSilent(proxyPassword, "PRIVATE KEY")
		cache.stop()
	})
})
