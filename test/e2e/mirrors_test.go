// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/mirror"
	mirrorv1alpha1 "github.com/larder-project/larder/pkg/apis/mirror/v1alpha1"
	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	"github.com/larder-project/larder/test/landscape/evidence"
	"github.com/larder-project/larder/test/landscape/garden"
	"github.com/larder-project/larder/test/pki"
	"github.com/larder-project/larder/test/upstreamsim"
)

var _ = Describe("Mirrors", func() {
	It("are asked while they are configured, and leave nothing on the node", Label("mirror"), func(ctx context.Context) {
		configure(ctx)
		before := nodeRegistries()
		first, second := startMirror(nil), startMirror(nil)

		By("enabling a mirror that also resolves tags")
		configureMirrors(ctx, nil, "", mirrorOf(garden.PrivateHost, resolving(first)))
		Expect(hostsFile(garden.PrivateHost)).To(Equal(hostsToml(garden.PrivateHost, hostToml(first, `"pull","resolve"`))))
		image := newMirroredImage(ctx, garden.PrivateHost, first, second)
		log := accessLog()
		pull(ctx, image.reference)
		image.expectRequests(first, "HEAD "+image.tag, "GET "+image.digest)
		Expect(upstreamRequests(log)).To(BeEmpty(), "the upstream is not asked")

		By("changing it to mirrors for which the upstream resolves tags")
		first.reset()
		configureMirrors(ctx, nil, "", mirrorOf(garden.PrivateHost, pulling(second), pulling(first)))
		Expect(hostsFile(garden.PrivateHost)).To(Equal(hostsToml(garden.PrivateHost, hostToml(second, `"pull"`), hostToml(first, `"pull"`))))
		image = newMirroredImage(ctx, garden.PrivateHost, first, second)
		log = accessLog()
		secret := pullSecret(ctx, garden.PrivateHost)
		pull(ctx, image.reference, secret)
		image.expectRequests(second, "GET "+image.digest)
		Expect(first.requests()).To(BeEmpty(), "the first host has everything")
		requests := upstreamRequests(log)
		Expect(requests).NotTo(BeEmpty())
		for _, request := range requests {
			Expect(request.Method+" "+request.Path).To(Equal("HEAD /v2/"+repository+"/manifests/"+image.tag), request.Line)
			Expect(request.Client).To(Equal(here.IP()), request.Line)
		}

		By("disabling the extension")
		disableExtension(ctx)
		Expect(nodeRegistries()).To(Equal(before))
		configureMirrors(ctx, nil, "", mirrorOf(garden.PrivateHost, pulling(second), pulling(first)))
		Expect(hostsFile(garden.PrivateHost)).To(Equal(hostsToml(garden.PrivateHost, hostToml(second, `"pull"`), hostToml(first, `"pull"`))))

		By("removing the extension")
		configure(ctx)
		Expect(nodeRegistries()).To(Equal(before))
		expectGone(ctx, &extensionsv1alpha1.Extension{}, client.ObjectKey{Namespace: seedNamespace, Name: mirror.ExtensionType})
		second.reset()
		pull(ctx, newMirroredImage(ctx, garden.PrivateHost, first, second).reference, secret)
		Expect(second.requests()).To(BeEmpty())
	}, SpecTimeout(journeyTimeout))

	It("are tried in their order, and then the upstream", Label("mirror-down"), func(ctx context.Context) {
		configure(ctx)
		first, second := startMirror(nil), startMirror(nil)
		configureMirrors(ctx, nil, "", mirrorOf(garden.PrivateHost, resolving(first), resolving(second)))
		secret := pullSecret(ctx, garden.PrivateHost)
		// pulls pulls an image by a pod, and again to measure the duration without that of the pod.
		pulls := func(state string, servedBy string) {
			GinkgoHelper()
			first.reset()
			second.reset()
			image := newMirroredImage(ctx, garden.PrivateHost, first, second)
			log := accessLog()
			pull(ctx, image.reference, secret)
			blobs := map[string]bool{"first": first.served(), "second": second.served(), "upstream": false}
			for _, request := range upstreamRequests(log) {
				blobs["upstream"] = blobs["upstream"] || strings.Contains(request.Path, "/blobs/") && request.Status < 400
			}
			for name, served := range blobs {
				Expect(served).To(Equal(name == servedBy), name)
			}
			AddReportEntry("mirrors", fmt.Sprintf("%s: served by the %s in %s", state, servedBy, pullTime(ctx, image.reference).Round(10*time.Millisecond)))
		}

		pulls("all hosts are up", "first")
		first.Misbehave(upstreamsim.Faults{Status: http.StatusNotFound})
		pulls("the first host responds with 404", "second")
		Expect(first.requests()).NotTo(BeEmpty())
		first.Misbehave(upstreamsim.Faults{Status: http.StatusServiceUnavailable})
		pulls("the first host responds with 503", "second")
		first.Misbehave(upstreamsim.Faults{})
		first.Refuse()
		pulls("the first host refuses connections", "second")
		second.Refuse()
		pulls("both hosts refuse connections", "upstream")

		By("starting the hosts again")
		Expect(first.Accept()).To(Succeed())
		Expect(second.Accept()).To(Succeed())
		pulls("all hosts are up again", "first")

		By("pulling while the first host does not respond to requests for the tag")
		first.Misbehave(upstreamsim.Faults{Hang: true, Only: []upstreamsim.Kind{upstreamsim.ManifestHead}})
		image := newMirroredImage(ctx, garden.PrivateHost, first, second)
		took := pullTime(ctx, image.reference)
		AddReportEntry("mirrors", fmt.Sprintf("the first host hangs for one request: %s", took.Round(10*time.Millisecond)))
		Expect(took).To(BeNumerically(">", 25*time.Second), "containerd waits for the response")
	}, SpecTimeout(journeyTimeout))

	It("are used beside caches of other upstreams only", Label("mirror-and-cache"), func(ctx context.Context) {
		first := startMirror(nil)
		configureMirrors(ctx, []v1alpha3.RegistryCache{garden.Cache(garden.BasicHost)}, "", mirrorOf(garden.PrivateHost, resolving(first)))
		expectReady(ctx, garden.BasicHost)
		Expect(hostsFile(garden.PrivateHost)).To(Equal(hostsToml(garden.PrivateHost, hostToml(first, `"pull","resolve"`))))

		By("pulling from the mirror")
		image := newMirroredImage(ctx, garden.PrivateHost, first)
		before := counts(ctx, garden.BasicHost)
		pull(ctx, image.reference)
		image.expectRequests(first, "HEAD "+image.tag, "GET "+image.digest)
		Expect(counts(ctx, garden.BasicHost).Minus(before).Misses).To(BeZero())

		By("pulling from the cache")
		first.reset()
		pull(ctx, newImage(ctx, garden.BasicHost))
		Eventually(ctx, func() int { return counts(ctx, garden.BasicHost).Minus(before).Misses }).Should(BeNumerically(">", 0))
		Expect(first.requests()).To(BeEmpty())

		By("refusing a mirror for the upstream of the cache, and a cache for that of the mirror")
		const conflict = "an upstream cannot be both cached and mirrored"
		tryMirrors := func(caches []v1alpha3.RegistryCache, mirrors ...mirrorv1alpha1.Mirror) error {
			GinkgoHelper()
			desired := mirroredShoot(caches, "", mirrors...)
			return tryShoot(ctx, func(shoot *gardencorev1beta1.Shoot) {
				shoot.Spec.Extensions, shoot.Spec.Resources = desired.Spec.Extensions, desired.Spec.Resources
			})
		}
		Expect(tryMirrors([]v1alpha3.RegistryCache{garden.Cache(garden.BasicHost)}, mirrorOf(garden.PrivateHost, resolving(first)), mirrorOf(garden.BasicHost, resolving(first)))).
			To(MatchError(And(ContainSubstring(conflict), ContainSubstring("providerConfig.mirrors[1].upstream"))))
		Expect(tryMirrors([]v1alpha3.RegistryCache{garden.Cache(garden.BasicHost), garden.Cache(garden.PrivateHost)}, mirrorOf(garden.PrivateHost, resolving(first)))).
			To(MatchError(And(ContainSubstring(conflict), ContainSubstring("providerConfig.caches[1].upstream"))))

		By("keeping the cache when the mirror is removed")
		configure(ctx, garden.Cache(garden.BasicHost))
		Expect(evidence.HostsFile(here, garden.PrivateHost)).NotTo(BeAnExistingFile())
		Expect(hostsFile(garden.BasicHost)).To(MatchRegexp(`\[host\.["']https://`))
	}, SpecTimeout(journeyTimeout))

	It("trust a private CA, which is rotated without a failed pull", Label("mirror-ca"), func(ctx context.Context) {
		oldCA, oldCertificate := mirrorAuthority("old")
		newCA, newCertificate := mirrorAuthority("new")
		bundles := []struct {
			secret  string
			content []byte
		}{
			{"mirror-ca-v1", oldCA},
			{"mirror-ca-v2", slices.Concat(oldCA, newCA)},
			{"mirror-ca-v3", newCA},
		}
		for _, bundle := range bundles {
			secret := projectSecret(bundle.secret)
			secret.Immutable, secret.Data = new(true), map[string][]byte{"bundle.crt": bundle.content}
			Expect(c.Create(ctx, secret)).To(Succeed())
			DeferCleanup(func(ctx context.Context) error { return client.IgnoreNotFound(c.Delete(ctx, secret)) })
		}
		m := startMirror(oldCertificate)
		host := resolving(m)
		host.CABundleSecretReferenceName = new(garden.MirrorCAReference)
		configureMirrors(ctx, nil, bundles[0].secret, mirrorOf(garden.PrivateHost, host))
		expectBundle := func(content []byte) {
			GinkgoHelper()
			files := nodeRegistries()
			Expect(files).To(HaveLen(2), "hosts.toml and one CA bundle")
			for path, text := range files {
				if filepath.Base(path) != "hosts.toml" {
					Expect(text).To(Equal(string(content)))
					Expect(hostsFile(garden.PrivateHost)).To(Equal(hostsToml(garden.PrivateHost,
						hostToml(m, `"pull","resolve"`, `ca = ["/etc/containerd/certs.d/`+filepath.Base(path)+`"]`))))
				}
			}
		}
		expectBundle(oldCA)
		load, log := startNodeImagePulls(ctx, pushImages(ctx, garden.PrivateHost, 5, m), pushImages(ctx, garden.PrivateHost, 5, m)), accessLog()
		load.awaitPulls(ctx, 20)

		By("trusting both CAs")
		refer(ctx, bundles[1].secret)
		Expect(garden.WaitForShoot(ctx, c, shootKey)).To(Succeed())
		expectBundle(bundles[1].content)

		By("replacing the certificate of the mirror")
		m.SetCertificate(*newCertificate)
		load.awaitPulls(ctx, 20)
		Expect(c.Delete(ctx, projectSecret(bundles[1].secret))).To(MatchError(And(ContainSubstring("in use"), ContainSubstring("caBundleSecretReferenceName"))))
		Expect(c.Delete(ctx, projectSecret(bundles[0].secret))).To(Succeed())

		By("trusting only the new CA")
		refer(ctx, bundles[2].secret)
		Expect(garden.WaitForShoot(ctx, c, shootKey)).To(Succeed())
		expectBundle(newCA)
		load.awaitPulls(ctx, 20)
		result := load.stop()
		requests, err := log.Requests("/" + mirroredRepository + "/")
		Expect(err).NotTo(HaveOccurred())
		AddReportEntry("mirror CA rotation", fmt.Sprintf("%d pulls in %s, %d failed; %d requests to the upstream",
			result.pulls, result.duration.Round(time.Second), len(result.failures), len(requests)))
		Expect(result.failures).To(BeEmpty())
		// The node agent does not replace hosts.toml atomically. A pull that reads it meanwhile uses the upstream.
		Expect(len(requests)).To(BeNumerically("<", result.pulls/10))

		By("using the upstream if the node does not trust the certificate")
		m.SetCertificate(*oldCertificate)
		m.reset()
		image := newMirroredImage(ctx, garden.PrivateHost, m)
		log = accessLog()
		pull(ctx, image.reference, pullSecret(ctx, garden.PrivateHost))
		Expect(m.requests()).To(BeEmpty())
		Expect(upstreamRequests(log)).NotTo(BeEmpty())

		By("removing the mirror")
		configure(ctx)
		Expect(nodeRegistries()).To(BeEmpty())
	}, SpecTimeout(journeyTimeout))
})

// mirroredRepository is the repository of the images that are pulled repeatedly.
const mirroredRepository = "journeys/mirrored"

// mirrorHost is a host of a mirror, outside of the cluster: the landscape's host, on which the tests run.
type mirrorHost struct {
	*upstreamsim.Registry

	mu   sync.Mutex
	seen []string
}

// startMirror starts a registry without authentication. It serves TLS if there is a certificate.
func startMirror(certificate *tls.Certificate) *mirrorHost {
	GinkgoHelper()
	registry, err := upstreamsim.Start(upstreamsim.Options{
		Endpoint:    upstreamsim.Endpoint{Listen: net.JoinHostPort(here.Network().Host().String(), "0")},
		Certificate: certificate,
	})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(registry.Close)
	m := &mirrorHost{Registry: registry}
	registry.Wrap(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			m.mu.Lock()
			m.seen = append(m.seen, r.Method+" "+r.URL.Path+"?ns="+r.URL.Query().Get("ns"))
			m.mu.Unlock()
			next.ServeHTTP(w, r)
		})
	})
	return m
}

// requests returns the requests since the last reset.
func (m *mirrorHost) requests() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.seen...)
}

// served reports whether the mirror has sent content since the last reset.
func (m *mirrorHost) served() bool { return m.Counters().Bytes > 0 }

func (m *mirrorHost) reset() {
	m.ResetCounters()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen = nil
}

// mirroredImage is an image that an upstream and its mirrors have.
type mirroredImage struct {
	reference, host, tag, digest string
	// blobs are those that no other image has.
	blobs []string
	// shared is the layer with the program, which other images on the node may also have.
	shared string
}

// expectRequests expects that a mirror got exactly the requests for an image: those for manifests, given as method and
// reference, and one for each blob. Each one names the upstream.
func (i mirroredImage) expectRequests(m *mirrorHost, manifests ...string) {
	GinkgoHelper()
	request := func(method, kind, reference string) string {
		return fmt.Sprintf("%s /v2/%s/%s/%s?ns=%s", method, repository, kind, reference, i.host)
	}
	var expected []string
	for _, manifest := range manifests {
		method, reference, _ := strings.Cut(manifest, " ")
		expected = append(expected, request(method, "manifests", reference))
	}
	for _, blob := range i.blobs {
		expected = append(expected, request(http.MethodGet, "blobs", blob))
	}
	Expect(m.requests()).To(Or(ConsistOf(expected), ConsistOf(append(expected, request(http.MethodGet, "blobs", i.shared)))))
}

// newMirroredImage pushes an image that has never been pulled to an upstream and to mirrors.
func newMirroredImage(ctx context.Context, host string, mirrors ...*mirrorHost) mirroredImage {
	GinkgoHelper()
	image, err := garden.DemoImage(here)
	Expect(err).NotTo(HaveOccurred())
	digest, err := image.Digest()
	Expect(err).NotTo(HaveOccurred())
	result := mirroredImage{host: host, tag: fmt.Sprint(time.Now().UnixNano()), digest: digest.String()}
	result.reference = host + "/" + repository + ":" + result.tag
	Expect(garden.Push(ctx, here, result.reference, image)).To(Succeed())

	copied := copyImage(image)
	Expect(copied.Blobs).To(HaveLen(3))
	for i, blob := range copied.Blobs {
		if digest := blob.Descriptor().Digest.String(); i == 1 {
			result.shared = digest
		} else {
			result.blobs = append(result.blobs, digest)
		}
	}
	for _, m := range mirrors {
		m.Push(repository, result.tag, copied)
	}
	return result
}

// copyImage returns an image in the form of upstreamsim.
func copyImage(image v1.Image) upstreamsim.Image {
	GinkgoHelper()
	manifest, err := image.RawManifest()
	Expect(err).NotTo(HaveOccurred())
	mediaType, err := image.MediaType()
	Expect(err).NotTo(HaveOccurred())
	config, err := image.RawConfigFile()
	Expect(err).NotTo(HaveOccurred())
	copied := upstreamsim.Image{
		Manifest: upstreamsim.Content{MediaType: string(mediaType), Data: manifest},
		Blobs:    []upstreamsim.Content{{Data: config}},
	}
	layers, err := image.Layers()
	Expect(err).NotTo(HaveOccurred())
	for _, layer := range layers {
		reader, err := layer.Compressed()
		Expect(err).NotTo(HaveOccurred())
		var content bytes.Buffer
		_, err = io.Copy(&content, reader)
		Expect(err).NotTo(HaveOccurred())
		Expect(reader.Close()).To(Succeed())
		copied.Blobs = append(copied.Blobs, upstreamsim.Content{Data: content.Bytes()})
	}
	return copied
}

func mirrorOf(upstream string, hosts ...mirrorv1alpha1.Host) mirrorv1alpha1.Mirror {
	return mirrorv1alpha1.Mirror{Upstream: upstream, Hosts: hosts}
}

// resolving returns a host that also resolves tags.
func resolving(m *mirrorHost) mirrorv1alpha1.Host {
	return mirrorv1alpha1.Host{Host: m.URL(), Capabilities: []mirrorv1alpha1.Capability{mirrorv1alpha1.Pull, mirrorv1alpha1.Resolve}}
}

// pulling returns a host with the default capabilities.
func pulling(m *mirrorHost) mirrorv1alpha1.Host { return mirrorv1alpha1.Host{Host: m.URL()} }

func mirroredShoot(caches []v1alpha3.RegistryCache, caSecret string, mirrors ...mirrorv1alpha1.Mirror) *gardencorev1beta1.Shoot {
	GinkgoHelper()
	shoot, err := garden.Shoot(here, caches...)
	Expect(err).NotTo(HaveOccurred())
	Expect(garden.AddMirrors(shoot, caSecret, mirrors...)).To(Succeed())
	return shoot
}

// configureMirrors sets the caches and the mirrors of the Shoot, and waits until Gardener is done.
func configureMirrors(ctx context.Context, caches []v1alpha3.RegistryCache, caSecret string, mirrors ...mirrorv1alpha1.Mirror) {
	GinkgoHelper()
	Expect(garden.ApplyShoot(ctx, c, mirroredShoot(caches, caSecret, mirrors...))).To(Succeed())
}

// disableExtension disables the only extension of the Shoot.
func disableExtension(ctx context.Context) {
	GinkgoHelper()
	shoot := getShoot(ctx)
	patch := client.MergeFrom(shoot.DeepCopy())
	Expect(shoot.Spec.Extensions).To(HaveLen(1))
	shoot.Spec.Extensions[0].Disabled = new(true)
	Expect(c.Patch(ctx, shoot, patch)).To(Succeed())
	Expect(garden.WaitForShoot(ctx, c, shootKey)).To(Succeed())
}

// hostsToml is the hosts.toml of an upstream as the node agent writes it.
func hostsToml(upstream string, hosts ...string) string {
	return "# managed by gardener-node-agent\nserver = \"https://" + upstream + "\"\n\n" + strings.Join(hosts, "")
}

func hostToml(m *mirrorHost, capabilities string, options ...string) string {
	text := fmt.Sprintf("[host.%q]\n  capabilities = [%s]\n", m.URL(), capabilities)
	for _, option := range options {
		text += "  " + option + "\n"
	}
	return text + "\n"
}

// nodeRegistries returns the files in the directory of containerd's registries on the node, by path.
func nodeRegistries() map[string]string {
	GinkgoHelper()
	root := filepath.Dir(filepath.Dir(evidence.HostsFile(here, garden.PrivateHost)))
	files := map[string]string{}
	Expect(filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		files[path] = string(content)
		return err
	})).To(Succeed())
	return files
}

// upstreamRequests returns the requests for the journeys' images at the upstreams.
func upstreamRequests(log *evidence.AccessLog) []evidence.Request {
	GinkgoHelper()
	requests, err := log.Requests("/" + repository + "/")
	Expect(err).NotTo(HaveOccurred())
	var found []evidence.Request
	for _, request := range requests {
		// The first request of a client is anonymous: the response asks it to authenticate.
		if request.Status != http.StatusUnauthorized {
			found = append(found, request)
		}
	}
	return found
}

// pullTime returns the duration of a pull with the credentials for the upstreams.
func pullTime(ctx context.Context, image string) time.Duration {
	GinkgoHelper()
	username, password, err := here.Puller()
	Expect(err).NotTo(HaveOccurred())
	images, err := evidence.NodeImages(ctx, here)
	Expect(err).NotTo(HaveOccurred())
	Expect(evidence.Delete(ctx, c, evidence.Pod(podName, image))).To(Succeed())
	Expect(evidence.Forget(ctx, here, strings.TrimSuffix(image, image[strings.LastIndex(image, ":"):]))).To(Succeed())
	begin := time.Now()
	Expect(images.Pull(ctx, image, username, password)).To(Succeed())
	return time.Since(begin)
}

// mirrorAuthority returns a CA and a certificate for mirrors that it has issued.
func mirrorAuthority(name string) ([]byte, *tls.Certificate) {
	GinkgoHelper()
	authority, err := pki.NewAuthority(name)
	Expect(err).NotTo(HaveOccurred())
	pair, err := authority.Issue(pki.Request{CommonName: "mirror", Hosts: []string{here.Network().Host().String()}})
	Expect(err).NotTo(HaveOccurred())
	certificate, err := pair.TLS()
	Expect(err).NotTo(HaveOccurred())
	return authority.Certificate, &certificate
}

// pushImages pushes images that have never been pulled to an upstream and to mirrors, for repeated pulls.
func pushImages(ctx context.Context, host string, count int, mirrors ...*mirrorHost) []string {
	GinkgoHelper()
	var references []string
	for range count {
		image, err := garden.DemoImage(here)
		Expect(err).NotTo(HaveOccurred())
		tag := fmt.Sprint(time.Now().UnixNano())
		reference := host + "/" + mirroredRepository + ":" + tag
		Expect(garden.Push(ctx, here, reference, image)).To(Succeed())
		for _, m := range mirrors {
			m.Push(mirroredRepository, tag, copyImage(image))
		}
		references = append(references, reference)
	}
	return references
}

// startNodeImagePulls repeatedly pulls images with the node's containerd and the credentials for the upstreams, each time
// completely. There is one worker for each list of images.
func startNodeImagePulls(ctx context.Context, references ...[]string) *load {
	GinkgoHelper()
	username, password, err := here.Puller()
	Expect(err).NotTo(HaveOccurred())
	puller := upstreamsim.Account{Username: username, Password: password}
	return startNodeImagePullsAs(ctx, func() upstreamsim.Account { return puller }, references...)
}

// startNodeImagePullsAs is startNodeImagePulls with an account that may change; its zero value stands for no
// credential.
func startNodeImagePullsAs(ctx context.Context, account func() upstreamsim.Account, references ...[]string) *load {
	GinkgoHelper()
	images, err := evidence.NodeImages(ctx, here)
	Expect(err).NotTo(HaveOccurred())
	l := &load{begun: time.Now()}
	ctx, l.cancel = context.WithCancel(ctx)
	DeferCleanup(l.cancel)
	for _, list := range references {
		l.running.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				l.pullOnNode(context.WithoutCancel(ctx), images, list[i%len(list)], account())
			}
		})
	}
	return l
}
