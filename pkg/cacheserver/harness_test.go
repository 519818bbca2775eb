// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/onsi/gomega/gexec"

	"github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/test/landscape/upstream"
)

var (
	robot  = upstream.Account{Username: "robot$puller", Password: `p"u'l: #%*` + "\n" + `remoteurl: x`}
	pusher = upstream.Account{Username: "pusher", Password: "push"}
)

// world is an upstream with both of its registries, and a directory for everything.
type world struct {
	dir        string
	authority  upstream.Authority
	registries *upstream.Registries
	requests   *upstream.Recorder
}

func newWorld() *world {
	GinkgoHelper()
	w := &world{dir: GinkgoT().TempDir(), requests: &upstream.Recorder{}}
	var err error
	w.authority, err = upstream.NewAuthority()
	Expect(err).NotTo(HaveOccurred())
	Expect(os.WriteFile(w.caFile(), w.authority.Certificate, 0o600)).To(Succeed())
	w.registries, err = upstream.Start(upstream.Options{
		Dir:     filepath.Join(w.dir, "upstream"),
		CA:      w.authority,
		Private: upstream.Endpoint{Listen: "127.0.0.1:0"},
		Basic:   upstream.Endpoint{Listen: "127.0.0.1:0"},
		Puller:  robot,
		Pusher:  pusher,
		Log:     GinkgoWriter,
		Observe: w.requests.Observe,
	})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(w.registries.Close)
	return w
}

func (w *world) caFile() string {
	return filepath.Join(w.dir, "ca.crt")
}

// host is that of one of the registries.
func (w *world) host(server string) string {
	if server == upstream.Basic {
		return w.registries.BasicHost
	}
	return w.registries.PrivateHost
}

// push puts a new image of one layer into a registry and returns it.
func (w *world) push(server, repository string, layerSize int64) v1.Image {
	GinkgoHelper()
	image, err := random.Image(layerSize, 1)
	Expect(err).NotTo(HaveOccurred())
	client := upstream.Client{Account: pusher, CA: w.authority.Certificate}
	Expect(client.Push(context.Background(), w.host(server)+"/"+repository, image)).To(Succeed())
	w.requests.Reset()
	return image
}

// config is what a cache for one of the registries gets, as the controller would write it.
func (w *world) config(server string) config.Config {
	return config.Config{
		RemoteURL:  "https://" + w.host(server),
		Credential: &credentials.Credential{Username: robot.Username, Password: robot.Password},
		TTL:        time.Hour,
	}
}

// issue writes a server certificate for the cache, in the way a mounted Secret looks like.
func (w *world) issue(dir string) *config.TLSFiles {
	GinkgoHelper()
	certificate, key, err := w.authority.IssuePEM("127.0.0.1")
	Expect(err).NotTo(HaveOccurred())
	generation, err := os.MkdirTemp(dir, "..generation")
	Expect(err).NotTo(HaveOccurred())
	Expect(os.WriteFile(filepath.Join(generation, "tls.crt"), certificate, 0o600)).To(Succeed())
	Expect(os.WriteFile(filepath.Join(generation, "tls.key"), key, 0o600)).To(Succeed())
	swap(generation, filepath.Join(dir, "..data"))
	for _, name := range []string{"tls.crt", "tls.key"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); !os.IsExist(err) {
			Expect(err).NotTo(HaveOccurred())
		}
	}
	return &config.TLSFiles{CertificateFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key")}
}

func swap(target, link string) {
	GinkgoHelper()
	Expect(os.Symlink(target, link+".new")).To(Succeed())
	Expect(os.Rename(link+".new", link)).To(Succeed())
}

// cache is a running process of registry-cache-server.
type cache struct {
	*gexec.Session
	address, debugAddress string
	ca                    []byte
}

// command runs the server with a configuration as the controller renders it. What differs from a pod, addresses and the
// storage, comes by environment overrides, and so can more.
func (w *world) command(c config.Config, env ...string) (*gexec.Session, string) {
	GinkgoHelper()
	rendered, err := c.Marshal()
	Expect(err).NotTo(HaveOccurred())
	configFile := filepath.Join(w.dir, "config.yml")
	Expect(os.WriteFile(configFile, rendered, 0o600)).To(Succeed())

	command := exec.Command(binary, "serve", configFile)
	command.Env = append([]string{
		"SSL_CERT_FILE=" + w.caFile(),
		"REGISTRY_HTTP_ADDR=127.0.0.1:0",
		"REGISTRY_HTTP_DEBUG_ADDR=127.0.0.1:0",
		"REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=" + w.storage(),
	}, env...)
	session, err := gexec.Start(command, GinkgoWriter, GinkgoWriter)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { session.Kill().Wait("10s") })
	return session, configFile
}

func (w *world) storage() string {
	return filepath.Join(w.dir, "cache")
}

func (w *world) start(c config.Config, env ...string) *cache {
	GinkgoHelper()
	session, _ := w.command(c, env...)
	Eventually(session.Err, "20s").Should(gbytes.Say(`"msg":"Serving"`))
	output := string(session.Err.Contents())
	return &cache{
		Session:      session,
		address:      match(output, `"address":"([^"]+)"`),
		debugAddress: match(output, `"debugAddress":"([^"]+)"`),
		ca:           w.authority.Certificate,
	}
}

func (c *cache) pull(repository string) (v1.Hash, error) {
	return upstream.Client{CA: c.ca}.Pull(context.Background(), c.address+"/"+repository)
}

// stop asks the process to end as Kubernetes would.
func (c *cache) stop() {
	GinkgoHelper()
	c.Terminate()
	Eventually(c.Session, "10s").Should(gexec.Exit(0))
}

// debug gets a page of the debug server.
func (c *cache) debug(path string) (int, string) {
	GinkgoHelper()
	response, err := http.Get("http://" + c.debugAddress + path)
	Expect(err).NotTo(HaveOccurred())
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	Expect(err).NotTo(HaveOccurred())
	return response.StatusCode, string(body)
}

// serial is the serial number of the certificate that the cache shows.
func (c *cache) serial() string {
	GinkgoHelper()
	roots := x509.NewCertPool()
	Expect(roots.AppendCertsFromPEM(c.ca)).To(BeTrue())
	connection, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", c.address, &tls.Config{RootCAs: roots})
	Expect(err).NotTo(HaveOccurred())
	defer connection.Close()
	return connection.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

func match(text, pattern string) string {
	GinkgoHelper()
	found := regexp.MustCompile(pattern).FindStringSubmatch(text)
	Expect(found).To(HaveLen(2), "%s in %s", pattern, text)
	return found[1]
}

func digestOf(image v1.Image) v1.Hash {
	GinkgoHelper()
	digest, err := image.Digest()
	Expect(err).NotTo(HaveOccurred())
	return digest
}

// secretParts are what must not appear in any output.
func secretParts(output string) []string {
	var found []string
	for _, secret := range append(strings.Split(robot.Password, "\n"), "cm9ib3QkcHVsbGVy" /* base64 of the user name */, "eyJhbGciOi" /* how a token starts */) {
		if strings.Contains(output, secret) {
			found = append(found, secret)
		}
	}
	return found
}

func countLines(output []byte, part string) int {
	return strings.Count(string(output), part)
}
