// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/onsi/gomega/gexec"
	"go.yaml.in/yaml/v2"

	"github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/test/cacheprocess"
	"github.com/larder-project/larder/test/landscape/upstream"
	"github.com/larder-project/larder/test/pki"
	"github.com/larder-project/larder/test/secretvolume"
	"github.com/larder-project/larder/test/upstreamsim"
)

var (
	robot  = upstreamsim.Account{Username: "robot$puller", Password: `p"u'l: #%*` + "\n" + `remoteurl: x`}
	pusher = upstreamsim.Account{Username: "pusher", Password: "push"}
)

// world is a pair of upstream registries and a directory for all files of a test.
type world struct {
	dir        string
	authority  *pki.Authority
	registries *upstream.Registries
	requests   *upstreamsim.Recorder
}

// newWorld starts the upstream registries under their addresses, unless a change of the options names them.
func newWorld(change ...func(*upstream.Options)) *world {
	GinkgoHelper()
	w := &world{dir: GinkgoT().TempDir(), requests: &upstreamsim.Recorder{}}
	var err error
	w.authority, err = pki.NewAuthority("upstream")
	Expect(err).NotTo(HaveOccurred())
	w.writeCA()
	options := upstream.Options{
		Dir:         filepath.Join(w.dir, "upstream"),
		Authority:   w.authority,
		Private:     upstreamsim.Endpoint{Listen: "127.0.0.1:0"},
		Basic:       upstreamsim.Endpoint{Listen: "127.0.0.1:0"},
		Puller:      robot,
		Pusher:      pusher,
		PullersFile: filepath.Join(w.dir, "upstream", "pullers.json"),
		Log:         GinkgoWriter,
		Observe:     func(_ string, request upstreamsim.Request) { w.requests.Observe(request) },
	}
	for _, apply := range change {
		apply(&options)
	}
	w.registries, err = upstream.Start(options)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(w.registries.Close)
	return w
}

func (w *world) caFile() string {
	return filepath.Join(w.dir, "ca.crt")
}

func (w *world) writeCA() {
	GinkgoHelper()
	Expect(os.WriteFile(w.caFile(), w.authority.Certificate, 0o600)).To(Succeed())
}

// host returns the host of one of the registries.
func (w *world) host(server string) string {
	if server == upstream.Basic {
		return w.registries.BasicHost
	}
	return w.registries.PrivateHost
}

// push pushes a new image of one layer to a registry.
func (w *world) push(server, repository string, layerSize int64) v1.Image {
	GinkgoHelper()
	image, err := random.Image(layerSize, 1)
	Expect(err).NotTo(HaveOccurred())
	client := upstream.Client{Account: pusher, CA: w.authority.Certificate, IP: "127.0.0.1"}
	Expect(client.Push(context.Background(), w.host(server)+"/"+repository, image)).To(Succeed())
	w.requests.Reset()
	return image
}

// config returns the configuration of a cache of one of the registries, as the controller writes it.
func (w *world) config(server string) config.Config {
	w.writeCredential(named("robot-v1", robot), nil)
	return config.Config{
		RemoteURL:            "https://" + w.host(server),
		CredentialsDirectory: w.credentials(),
		TTL:                  time.Hour,
	}
}

func (w *world) credentials() string {
	return filepath.Join(w.dir, "credentials")
}

func named(name string, account upstreamsim.Account) credentials.Named {
	return credentials.Named{Name: name, Material: credentials.Static(credentials.Credential{Username: account.Username, Password: account.Password})}
}

// writeCredential writes the credentials of the cache like the kubelet.
func (w *world) writeCredential(wanted credentials.Named, previous *credentials.Named) {
	GinkgoHelper()
	Expect(secretvolume.Write(w.credentials(), credentials.Files("", wanted, previous))).To(Succeed())
}

func (w *world) pullersFile() string {
	return filepath.Join(w.dir, "upstream", "pullers.json")
}

// clientCertificate issues a certificate that the authority has signed.
func (w *world) clientCertificate() tls.Certificate {
	GinkgoHelper()
	issued, err := w.authority.Issue(pki.Request{CommonName: "node"})
	Expect(err).NotTo(HaveOccurred())
	pair, err := issued.TLS()
	Expect(err).NotTo(HaveOccurred())
	return pair
}

// issue writes a server certificate for the cache like the kubelet.
func (w *world) issue(dir string) *config.TLSFiles {
	GinkgoHelper()
	return w.issueFor(dir, 0)
}

// issueFor is issue for a lifetime; 0 is the default.
func (w *world) issueFor(dir string, lifetime time.Duration) *config.TLSFiles {
	GinkgoHelper()
	pair, err := w.authority.Issue(pki.Request{CommonName: "cache", Hosts: []string{"127.0.0.1"}, Lifetime: lifetime})
	Expect(err).NotTo(HaveOccurred())
	Expect(secretvolume.Write(dir, map[string][]byte{"tls.crt": pair.Certificate, "tls.key": pair.Key})).To(Succeed())
	return &config.TLSFiles{CertificateFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key")}
}

// cache is a process of registry-cache-server.
type cache struct {
	*cacheprocess.Server
	Out, Err *gbytes.Buffer
	ca       []byte
}

// launch starts the server with a configuration as the controller renders it. The environment overrides the addresses
// and the storage, which differ from those in a pod, and whatever else is given.
func (w *world) launch(c config.Config, env ...string) *cache {
	GinkgoHelper()
	rendered, err := c.Marshal()
	Expect(err).NotTo(HaveOccurred())
	dir, err := os.MkdirTemp(w.dir, "server")
	Expect(err).NotTo(HaveOccurred())
	server, err := cacheprocess.New(implementation, dir, cacheprocess.Config{Raw: patient(rendered)})
	Expect(err).NotTo(HaveOccurred())
	server.SetDataDirectory(w.storage())
	server.Env = append([]string{"SSL_CERT_FILE=" + w.caFile(), "NO_PROXY="}, env...)
	launched := &cache{Server: server, Out: gbytes.NewBuffer(), Err: gbytes.NewBuffer(), ca: w.authority.Certificate}
	server.Stdout, server.Stderr = io.MultiWriter(launched.Out, GinkgoWriter), io.MultiWriter(launched.Err, GinkgoWriter)
	Expect(server.Launch()).To(Succeed())
	DeferCleanup(server.Kill)
	return launched
}

// patient raises the timeouts for the upstream, which is slow on a busy machine.
func patient(rendered []byte) []byte {
	GinkgoHelper()
	type middleware struct {
		Name    string
		Options map[string]any
	}
	var file struct {
		Middleware struct{ Registry []middleware }
		Rest       map[string]any `yaml:",inline"`
	}
	Expect(yaml.Unmarshal(rendered, &file)).To(Succeed())
	if len(file.Middleware.Registry) == 0 {
		file.Middleware.Registry = []middleware{{Name: pullthrough.Name, Options: map[string]any{}}}
	}
	file.Middleware.Registry[0].Options["timeouts"] = map[string]string{"connect": "5m", "firstbyte": "5m", "idle": "5m"}
	changed, err := yaml.Marshal(file)
	Expect(err).NotTo(HaveOccurred())
	return changed
}

func (w *world) storage() string {
	return filepath.Join(w.dir, "cache")
}

// start launches the server and waits until it serves.
func (w *world) start(c config.Config, env ...string) *cache {
	GinkgoHelper()
	launched := w.launch(c, env...)
	Eventually(launched.Err).Should(gbytes.Say(`"msg":"Serving"`))
	return launched
}

func (c *cache) pull(repository string) (v1.Hash, error) {
	return upstream.Client{CA: c.ca}.Pull(context.Background(), c.Address()+"/"+repository)
}

// unbuffered is a client whose connections buffer little, regardless of the defaults of the machine.
var unbuffered = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
	connection, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err == nil {
		err = connection.(*net.TCPConn).SetReadBuffer(64 << 10)
	}
	return connection, err
}}}

// beginPull pulls an image and starts to read one of its blobs, which is too large for the buffers between the two
// sides.
func (c *cache) beginPull(w *world) io.ReadCloser {
	GinkgoHelper()
	image := w.push(upstream.Private, app, 16<<20)
	Expect(c.pull(app)).To(Equal(digestOf(image)))
	layers, err := image.Layers()
	Expect(err).NotTo(HaveOccurred())
	digest, err := layers[0].Digest()
	Expect(err).NotTo(HaveOccurred())
	response, err := unbuffered.Get("http://" + c.Address() + "/v2/team/app/blobs/" + digest.String())
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(response.Body.Close)
	Expect(response).To(HaveHTTPStatus(http.StatusOK))
	Expect(io.CopyN(io.Discard, response.Body, 1<<20)).To(BeEquivalentTo(1 << 20))
	return response.Body
}

// stop ends the process like Kubernetes.
func (c *cache) stop() {
	GinkgoHelper()
	c.Terminate()
	Eventually(c).Should(gexec.Exit(0))
}

// debug requests a page of the debug server.
func (c *cache) debug(path string) (int, string) {
	GinkgoHelper()
	response, err := http.Get("http://" + c.DebugAddress() + path)
	Expect(err).NotTo(HaveOccurred())
	defer func() { Expect(response.Body.Close()).To(Succeed()) }()
	body, err := io.ReadAll(response.Body)
	Expect(err).NotTo(HaveOccurred())
	return response.StatusCode, string(body)
}

// get sends a request to the cache over TLS.
func (c *cache) get(path string, change func(*tls.Config)) (*http.Response, error) {
	GinkgoHelper()
	roots := x509.NewCertPool()
	Expect(roots.AppendCertsFromPEM(c.ca)).To(BeTrue())
	config := &tls.Config{RootCAs: roots}
	if change != nil {
		change(config)
	}
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true, ForceAttemptHTTP2: true}
	response, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Get("https://" + c.Address() + path)
	if err == nil {
		DeferCleanup(response.Body.Close)
	}
	return response, err
}

// serial returns the serial number of the cache's certificate.
func (c *cache) serial() string {
	GinkgoHelper()
	response, err := c.get("/v2/", nil)
	Expect(err).NotTo(HaveOccurred())
	defer func() { Expect(response.Body.Close()).To(Succeed()) }()
	return response.TLS.PeerCertificates[0].SerialNumber.String()
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

// secretParts returns the parts of the robot's credential that occur in an output.
func secretParts(output []byte) []string {
	var found []string
	for _, secret := range []string{
		`u'l: #%*`, `remoteurl: x`, // parts of the password that no log format escapes
		"cm9ib3QkcHVsbGVy", // the start of the credential in base64
		upstreamsim.TokenPrefix,
	} {
		if bytes.Contains(output, []byte(secret)) {
			found = append(found, secret)
		}
	}
	return found
}
