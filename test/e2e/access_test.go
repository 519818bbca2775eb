// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	imagev1 "github.com/opencontainers/image-spec/specs-go/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/evidence"
	"github.com/larder-project/larder/test/landscape/garden"
	"github.com/larder-project/larder/test/landscape/image"
	"github.com/larder-project/larder/test/landscape/parts"
	"github.com/larder-project/larder/test/pki"
	"github.com/larder-project/larder/test/upstreamsim"
)

// tenantPort is the port of the registry of tenants, at the address of the landscape.
const tenantPort = 5460

// tenantHost returns the host of the registry of tenants under a name. It has as many as a journey has caches.
func tenantHost(name string) string {
	return fmt.Sprintf("%s.%s:%d", name, landscape.Domain, tenantPort)
}

// tenantRegistry is an upstream registry in the network of the landscape that the journey controls: accounts with
// repositories of their own, and some repositories for everyone. The node trusts it.
type tenantRegistry struct {
	*upstreamsim.Registry
	// requests are all requests, of caches and of the node.
	requests *upstreamsim.Recorder

	mu       sync.Mutex
	accounts []upstreamsim.Account
}

// publicRepository is for everyone.
const publicRepository = "public"

func startTenantRegistry(accounts ...upstreamsim.Account) *tenantRegistry {
	GinkgoHelper()
	certificate, key, err := here.CA()
	Expect(err).NotTo(HaveOccurred())
	authority, err := pki.ParseAuthority(pki.Pair{Certificate: certificate, Key: key})
	Expect(err).NotTo(HaveOccurred())
	pair, err := authority.Issue(pki.Request{CommonName: "tenants", Hosts: []string{"*." + landscape.Domain}})
	Expect(err).NotTo(HaveOccurred())
	own, err := pair.TLS()
	Expect(err).NotTo(HaveOccurred())
	listen, err := evidence.Listener(here)
	Expect(err).NotTo(HaveOccurred())

	r := &tenantRegistry{requests: &upstreamsim.Recorder{}, accounts: accounts}
	r.Registry, err = upstreamsim.Start(upstreamsim.Options{
		Authentication: upstreamsim.Bearer,
		Accounts:       r.all,
		Public:         []string{publicRepository},
		Endpoint:       upstreamsim.Endpoint{Listen: net.JoinHostPort(here.IP(), fmt.Sprint(tenantPort)), Host: tenantHost("tenants")},
		Certificate:    &own,
		Listen:         listen,
		Observe:        r.requests.Observe,
	})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(r.Close)
	return r
}

func (r *tenantRegistry) all() []upstreamsim.Account {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.accounts)
}

// permit replaces the accounts. What others have is revoked.
func (r *tenantRegistry) permit(accounts ...upstreamsim.Account) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.accounts = accounts
}

// tenant returns an account for repositories.
func tenant(name string, repositories ...string) upstreamsim.Account {
	return upstreamsim.Account{Username: name, Password: "canary-" + rand.Text(), Repositories: repositories}
}

// tenantImage is an image of which neither the node nor a cache has a part.
type tenantImage struct {
	repository, tag, digest, layer string
	// size is that of the manifest, the configuration and the layer, whose own sizes are sizes.
	size  int64
	sizes []string
}

// byTag and byDigest return the reference for pods.
func (i tenantImage) byTag(host string) string    { return host + "/" + i.repository + ":" + i.tag }
func (i tenantImage) byDigest(host string) string { return host + "/" + i.repository + "@" + i.digest }

// push pushes a new image.
func (r *tenantRegistry) push(repository string) tenantImage {
	GinkgoHelper()
	// The text in place of certificates makes the only layer unique.
	program, err := image.New(parts.OwnPath(here.Repository(), parts.Demo), []byte(rand.Text()))
	Expect(err).NotTo(HaveOccurred())
	copied := copyImage(program)
	pushed := tenantImage{
		repository: repository, tag: strings.ToLower(rand.Text()), digest: copied.Manifest.Descriptor().Digest.String(),
		layer: copied.Blobs[1].Descriptor().Digest.String(), size: copied.Size(),
		sizes: []string{fmt.Sprint(len(copied.Manifest.Data)), fmt.Sprint(len(copied.Blobs[1].Data))},
	}
	r.Push(repository, pushed.tag, copied)
	return pushed
}

// served returns the requests for content of a repository to which the registry responded with content.
func (r *tenantRegistry) served(repository string) []upstreamsim.Request {
	var found []upstreamsim.Request
	for _, request := range r.requests.Requests() {
		if strings.HasPrefix(request.Path, "/v2/"+repository+"/") && request.Status < http.StatusBadRequest {
			found = append(found, request)
		}
	}
	return found
}

// cacheOf returns a cache for the registry of tenants under a name, with its own credential unless pods bring theirs.
func cacheOf(name string, mode v1alpha3.AccessMode) v1alpha3.RegistryCache {
	cache := v1alpha3.RegistryCache{Upstream: tenantHost(name), Access: &v1alpha3.Access{Mode: mode}}
	if mode != v1alpha3.AccessPullSecrets {
		cache.SecretReferenceName = new(garden.CredentialsReference)
	}
	return cache
}

// configureTenants configures caches whose own credential is that of an account.
func configureTenants(ctx context.Context, own upstreamsim.Account, caches ...v1alpha3.RegistryCache) {
	GinkgoHelper()
	// Immutable, and each journey has passwords of its own.
	name := "tenants-" + strings.ToLower(own.Password[len(own.Password)-8:])
	Expect(garden.EnsureCredentials(ctx, c, name, own.Username, own.Password)).To(Succeed())
	// Cleanup follows AfterEach, which restores the example.
	DeferCleanup(func(ctx context.Context) error { return client.IgnoreNotFound(c.Delete(ctx, projectSecret(name))) })
	configureWith(ctx, name, caches...)
}

// newNamespace creates a namespace until the end of the journey.
func newNamespace(ctx context.Context, name string) {
	GinkgoHelper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	Eventually(ctx, func() error { return c.Create(ctx, namespace.DeepCopy()) }).Should(Succeed(), "an earlier one may still be terminating")
	DeferCleanup(func(ctx context.Context) error { return client.IgnoreNotFound(c.Delete(ctx, namespace)) })
}

// newPullSecret creates the pull secrets of an account, one for each host, and returns a function that makes a pod use
// them.
func newPullSecret(ctx context.Context, namespace, name string, account upstreamsim.Account, hosts ...string) func(*corev1.Pod) {
	GinkgoHelper()
	var references []corev1.LocalObjectReference
	for _, host := range hosts {
		short, _, _ := strings.Cut(host, ".")
		secret := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name + "-" + short},
			Type:       corev1.SecretTypeDockerConfigJson,
			Data:       map[string][]byte{corev1.DockerConfigJsonKey: dockerConfig(host, account.Username, account.Password)},
		}
		Eventually(ctx, func() error { return c.Create(ctx, secret.DeepCopy()) }).Should(Succeed())
		DeferCleanup(func(ctx context.Context) error { return client.IgnoreNotFound(c.Delete(ctx, secret)) })
		references = append(references, corev1.LocalObjectReference{Name: secret.Name})
	}
	return func(pod *corev1.Pod) { pod.Spec.ImagePullSecrets = references }
}

// tenantPod returns a pod that pulls its image even if the node has it.
func tenantPod(namespace, name, image string, change ...func(*corev1.Pod)) *corev1.Pod {
	pod := evidence.Pod(name, image)
	pod.Namespace = namespace
	pod.Spec.Containers[0].ImagePullPolicy = corev1.PullAlways
	for _, f := range change {
		f(pod)
	}
	return pod
}

// forget removes the images of repositories from the node.
func forget(ctx context.Context, host string, repositories ...string) {
	GinkgoHelper()
	for _, repository := range repositories {
		Expect(evidence.Forget(ctx, here, host+"/"+repository)).To(Succeed())
	}
}

// expectStarts runs a pod, and removes it.
func expectStarts(ctx context.Context, pod *corev1.Pod) {
	GinkgoHelper()
	Expect(evidence.Run(ctx, c, pod)).To(Succeed())
	Expect(evidence.Delete(ctx, c, pod)).To(Succeed())
}

// expectRefused creates pods, and waits until the kubelet reports for each of them that its image cannot be pulled.
func expectRefused(ctx context.Context, pods ...*corev1.Pod) {
	GinkgoHelper()
	for _, pod := range pods {
		Expect(evidence.Delete(ctx, c, pod)).To(Succeed())
		Expect(c.Create(ctx, pod)).To(Succeed())
	}
	for _, pod := range pods {
		Eventually(ctx, func(g Gomega) {
			g.Expect(c.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
			g.Expect(evidence.Running(pod)).To(BeFalse())
			g.Expect(evidence.WaitingFor(pod)).To(Or(HavePrefix("ErrImagePull"), HavePrefix("ImagePullBackOff")))
		}).Should(Succeed(), pod.Name)
	}
	for _, pod := range pods {
		Expect(evidence.Delete(ctx, c, pod)).To(Succeed())
	}
}

// cacheClient is a client of a cache that knows only the nodes' CAs.
type cacheClient struct {
	endpoint string
	http     *http.Client
}

// newCacheClient returns a client that dials from the node, or from wherever else dial does.
func newCacheClient(ctx context.Context, host string, dial func(ctx context.Context, network, address string) (net.Conn, error), certificates ...tls.Certificate) cacheClient {
	GinkgoHelper()
	var err error
	if dial == nil {
		dial, err = evidence.Dialer(here)
		Expect(err).NotTo(HaveOccurred())
	}
	bundle, err := os.ReadFile(nodeBundleFile())
	Expect(err).NotTo(HaveOccurred())
	roots := x509.NewCertPool()
	Expect(roots.AppendCertsFromPEM(bundle)).To(BeTrue())
	return cacheClient{
		endpoint: cacheStatus(ctx, Default, host).Endpoint,
		http: &http.Client{Timeout: time.Minute, Transport: &http.Transport{
			DialContext: dial, DisableKeepAlives: true,
			TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, Certificates: certificates},
		}},
	}
}

// reply is what a client has seen of a response.
type reply struct {
	status int
	header http.Header
	body   string
}

// maxRefusal is more than the body of a refusal takes, and less than a layer.
const maxRefusal = 1024

// cacheRequest is a request to a cache.
type cacheRequest struct {
	method, path string
	header       http.Header
}

func get(path string) cacheRequest  { return cacheRequest{method: http.MethodGet, path: path} }
func head(path string) cacheRequest { return cacheRequest{method: http.MethodHead, path: path} }

// with returns the request with a header.
func (r cacheRequest) with(name, value string) cacheRequest {
	r.header = http.Header{name: {value}}
	return r
}

func (r cacheRequest) String() string {
	if len(r.header) == 0 {
		return r.method + " " + r.path
	}
	return fmt.Sprintf("%s %s %v", r.method, r.path, r.header)
}

// send sends a request. The zero value of account stands for no credential.
func (c cacheClient) send(ctx context.Context, request cacheRequest, account upstreamsim.Account) (reply, error) {
	r, err := http.NewRequestWithContext(ctx, request.method, c.endpoint+request.path, nil)
	if err != nil {
		return reply{}, err
	}
	r.Header.Set("Accept", strings.Join([]string{imagev1.MediaTypeImageManifest, "application/vnd.docker.distribution.manifest.v2+json", "*/*"}, ", "))
	maps.Copy(r.Header, request.header)
	if account.Username != "" {
		r.SetBasicAuth(account.Username, account.Password)
	}
	response, err := c.http.Do(r)
	if err != nil {
		return reply{}, err
	}
	body, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, response.Header, string(body)}, errors.Join(err, response.Body.Close())
}

// status is send for the status alone, for Eventually.
func (c cacheClient) status(ctx context.Context, request cacheRequest, account upstreamsim.Account) func() (int, error) {
	return func() (int, error) {
		r, err := c.send(ctx, request, account)
		return r.status, err
	}
}

// contentRequests returns the requests that read something of an image.
func (i tenantImage) contentRequests() []cacheRequest {
	base := "/v2/" + i.repository
	tag, manifest, layer := base+"/manifests/"+i.tag, base+"/manifests/"+i.digest, base+"/blobs/"+i.layer
	return []cacheRequest{
		get(tag), head(tag),
		get(manifest), head(manifest), get(manifest).with("If-None-Match", `"`+i.digest+`"`),
		get(layer), head(layer), get(layer).with("Range", "bytes=0-0"),
		get(base + "/referrers/" + i.digest),
		get(base + "/tags/list"),
	}
}

// expectNoContent expects that a client cannot read anything of an image, nor learn that a cache has it.
func (c cacheClient) expectNoContent(ctx context.Context, i tenantImage, account upstreamsim.Account, statuses ...int) {
	GinkgoHelper()
	const catalog = "/v2/_catalog"
	for _, request := range append(i.contentRequests(), get(catalog)) {
		text := fmt.Sprintf("%s as %q", request, account.Username)
		r, err := c.send(ctx, request, account)
		Expect(err).NotTo(HaveOccurred(), text)
		if request.path == catalog {
			Expect(r.status).To(BeElementOf(http.StatusUnauthorized, http.StatusForbidden), text)
		} else {
			Expect(r.status).To(BeElementOf(statuses), text)
		}
		Expect(len(r.body)).To(BeNumerically("<", maxRefusal), text)
		Expect(r.body).NotTo(Or(ContainSubstring(i.layer), ContainSubstring("mediaType"), ContainSubstring(`"tags"`), ContainSubstring(`"repositories"`)), text)
		for _, name := range []string{"Docker-Content-Digest", "Etag", "Content-Range", "Last-Modified"} {
			Expect(r.header).NotTo(HaveKey(name), text)
		}
		Expect(r.header.Get("Content-Length")).NotTo(BeElementOf(i.sizes), text)
	}
}

// expectContent expects that a client can read all of an image. It shows that expectNoContent can fail.
func (c cacheClient) expectContent(ctx context.Context, i tenantImage, account upstreamsim.Account) {
	GinkgoHelper()
	for _, request := range i.contentRequests() {
		text := fmt.Sprintf("%s as %q", request, account.Username)
		r, err := c.send(ctx, request, account)
		Expect(err).NotTo(HaveOccurred(), text)
		Expect(r.status).To(BeElementOf(http.StatusOK, http.StatusPartialContent, http.StatusNotModified), text)
	}
}
