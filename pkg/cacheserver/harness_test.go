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
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
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

// newWorld starts an upstream that is called by its addresses, or by what the options are changed to.
func newWorld(change ...func(*upstream.Options)) *world {
	GinkgoHelper()
	w := &world{dir: GinkgoT().TempDir(), requests: &upstream.Recorder{}}
	var err error
	w.authority, err = upstream.NewAuthority()
	Expect(err).NotTo(HaveOccurred())
	Expect(os.WriteFile(w.caFile(), w.authority.Certificate, 0o600)).To(Succeed())
	options := upstream.Options{
		Dir:         filepath.Join(w.dir, "upstream"),
		CA:          w.authority,
		Private:     upstream.Endpoint{Listen: "127.0.0.1:0"},
		Basic:       upstream.Endpoint{Listen: "127.0.0.1:0"},
		Puller:      robot,
		Pusher:      pusher,
		PullersFile: filepath.Join(w.dir, "upstream", "pullers.json"),
		Log:         GinkgoWriter,
		Observe:     w.requests.Observe,
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
	client := upstream.Client{Account: pusher, CA: w.authority.Certificate, IP: "127.0.0.1"}
	Expect(client.Push(context.Background(), w.host(server)+"/"+repository, image)).To(Succeed())
	w.requests.Reset()
	return image
}

// config is what a cache for one of the registries gets, as the controller would write it.
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

func named(name string, account upstream.Account) credentials.Named {
	return credentials.Named{Name: name, Credential: credentials.Credential{Username: account.Username, Password: account.Password}}
}

// writeCredential gives the cache a credential as the kubelet brings a Secret's new contents into a pod.
func (w *world) writeCredential(wanted credentials.Named, previous *credentials.Named) {
	GinkgoHelper()
	dir := w.credentials()
	Expect(os.MkdirAll(dir, 0o700)).To(Succeed())
	generation, err := os.MkdirTemp(dir, "..generation")
	Expect(err).NotTo(HaveOccurred())
	files := credentials.Files(wanted, previous)
	for name, content := range files {
		Expect(os.WriteFile(filepath.Join(generation, name), content, 0o440)).To(Succeed())
	}
	swap(generation, filepath.Join(dir, "..data"))
	for _, prefix := range []string{"", credentials.PreviousPrefix} {
		for _, key := range []string{credentials.NameKey, credentials.UsernameKey, credentials.PasswordKey} {
			link := filepath.Join(dir, prefix+key)
			if _, ok := files[prefix+key]; !ok {
				Expect(os.RemoveAll(link)).To(Succeed())
			} else if err := os.Symlink(filepath.Join("..data", prefix+key), link); !os.IsExist(err) {
				Expect(err).NotTo(HaveOccurred())
			}
		}
	}
}

func (w *world) pullersFile() string {
	return filepath.Join(w.dir, "upstream", "pullers.json")
}

// clientCertificate is one that the authority vouches for.
func (w *world) clientCertificate() tls.Certificate {
	GinkgoHelper()
	certificate, key, err := w.authority.IssuePEM("node")
	Expect(err).NotTo(HaveOccurred())
	pair, err := tls.X509KeyPair(certificate, key)
	Expect(err).NotTo(HaveOccurred())
	return pair
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
	Expect(os.WriteFile(configFile, patient(rendered), 0o600)).To(Succeed())

	command := exec.Command(binary, "serve", configFile)
	command.Env = append([]string{
		"GORACE=halt_on_error=1",
		"SSL_CERT_FILE=" + w.caFile(),
		"REGISTRY_HTTP_ADDR=127.0.0.1:0",
		"REGISTRY_HTTP_DEBUG_ADDR=127.0.0.1:0",
		"REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=" + w.storage(),
	}, env...)
	session, err := gexec.Start(command, GinkgoWriter, GinkgoWriter)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { session.Kill().Wait() })
	return session, configFile
}

// patient gives the server the time that an upstream on a busy machine takes to answer.
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

func (w *world) start(c config.Config, env ...string) *cache {
	GinkgoHelper()
	session, _ := w.command(c, env...)
	Eventually(session.Err).Should(gbytes.Say(`"msg":"Serving"`))
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

// unbuffered is a client whose connections take little that it does not read, however large the buffers of this machine are.
var unbuffered = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
	connection, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err == nil {
		err = connection.(*net.TCPConn).SetReadBuffer(64 << 10)
	}
	return connection, err
}}}

// download pulls an image once, and starts to read a blob of it that is too large for any buffer on the way.
func (c *cache) download(w *world) io.ReadCloser {
	GinkgoHelper()
	image := w.push(upstream.Private, app, 16<<20)
	Expect(c.pull(app)).To(Equal(digestOf(image)))
	layers, err := image.Layers()
	Expect(err).NotTo(HaveOccurred())
	digest, err := layers[0].Digest()
	Expect(err).NotTo(HaveOccurred())
	response, err := unbuffered.Get("http://" + c.address + "/v2/team/app/blobs/" + digest.String())
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(response.Body.Close)
	Expect(response).To(HaveHTTPStatus(http.StatusOK))
	Expect(io.CopyN(io.Discard, response.Body, 1<<20)).To(BeEquivalentTo(1 << 20))
	return response.Body
}

// stop asks the process to end as Kubernetes would.
func (c *cache) stop() {
	GinkgoHelper()
	c.Terminate()
	Eventually(c.Session).Should(gexec.Exit(0))
}

// debug gets a page of the debug server.
func (c *cache) debug(path string) (int, string) {
	GinkgoHelper()
	response, err := http.Get("http://" + c.debugAddress + path)
	Expect(err).NotTo(HaveOccurred())
	defer func() { Expect(response.Body.Close()).To(Succeed()) }()
	body, err := io.ReadAll(response.Body)
	Expect(err).NotTo(HaveOccurred())
	return response.StatusCode, string(body)
}

// get asks the cache for a page over TLS.
func (c *cache) get(path string, change func(*tls.Config)) (*http.Response, error) {
	GinkgoHelper()
	roots := x509.NewCertPool()
	Expect(roots.AppendCertsFromPEM(c.ca)).To(BeTrue())
	config := &tls.Config{RootCAs: roots}
	if change != nil {
		change(config)
	}
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true, ForceAttemptHTTP2: true}
	response, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Get("https://" + c.address + path)
	if err == nil {
		DeferCleanup(response.Body.Close)
	}
	return response, err
}

// serial is the serial number of the certificate that the cache shows.
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

// secretParts are the parts of the robot's credential that an output shows. There should be none.
func secretParts(output []byte) []string {
	var found []string
	for _, secret := range []string{
		`u'l: #%*`, `remoteurl: x`, // of the password, where no log format needs to escape
		"cm9ib3QkcHVsbGVy", // how the credential starts in base64
		"eyJhbGciOi",       // how a token starts
	} {
		if bytes.Contains(output, []byte(secret)) {
			found = append(found, secret)
		}
	}
	return found
}

// connectProxy is an HTTP proxy for TLS that knows every host, on this machine.
type connectProxy struct {
	mu    sync.Mutex
	hosts map[string]bool
}

func (p *connectProxy) seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.hosts))
}

// ServeHTTP connects a client with what it asks for.
func (p *connectProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host, port, err := net.SplitHostPort(r.Host)
	if err != nil || r.Method != http.MethodConnect {
		http.Error(w, "only for TLS", http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	if p.hosts == nil {
		p.hosts = map[string]bool{}
	}
	p.hosts[host] = true
	p.mu.Unlock()

	target, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	client, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	// Whichever side ends first ends the other.
	_, _ = client.Write([]byte("HTTP/1.1 200 OK\r\n\r\n"))
	go func() { _, _ = io.Copy(target, client); _ = target.Close() }()
	_, _ = io.Copy(client, target)
	_ = client.Close()
}
