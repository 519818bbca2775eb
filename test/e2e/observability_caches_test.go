// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	imagev1 "github.com/opencontainers/image-spec/specs-go/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	"github.com/larder-project/larder/test/cloudsim"
	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/evidence"
	"github.com/larder-project/larder/test/landscape/garden"
	"github.com/larder-project/larder/test/upstreamsim"
)

// The upstreams of the observed caches, by what is wrong with them or with their caches.
const (
	unreachableHost = "unreachable.test"
	limitedHost     = "limited.test"
	throttledHost   = "throttled.test"
	rejectedHost    = "rejected.test"
	fullHost        = "full.test"
	failingHost     = "failing.test"
	coldHost        = "cold.test"
	certificateHost = "certificate.test"
	replicatedHost  = "replicated.test"
	// expiringHost is a registry of a simulated cloud that issues credentials.
	expiringHost = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
)

var observedHosts = []string{
	unreachableHost, limitedHost, throttledHost, rejectedHost, fullHost, failingHost, coldHost, certificateHost, replicatedHost,
	expiringHost,
}

const (
	observedReference  = "observed"
	observedRepository = "observed/app"
	// volumesSize is the size of the file system of all volumes but the small one.
	volumesSize = "1g"
	smallVolume = 256 << 20
)

// observedCaches are caches of upstreams that the test controls, by upstream.
type observedCaches map[string]*observedCache

// observedCache is a cache of an upstream that the test controls.
type observedCache struct {
	host     string
	upstream *upstreamsim.Registry
	endpoint string
	client   *http.Client
	images   atomic.Uint64
	// hot is an image in the cache.
	hot upstreamsim.Image
	// cloud issues the credentials for the upstream; nil for all others.
	cloud *cloudsim.Cloud
}

// startObservedCaches configures the caches. They keep their volumes in memory, so that the free space of the machine's
// disk does not matter.
func startObservedCaches(ctx context.Context) observedCaches {
	GinkgoHelper()
	configure(ctx)
	mountMemory(ctx, landscape.VolumesDir, volumesSize)
	DeferCleanup(func(ctx context.Context) { configure(ctx) }, NodeTimeout(journeyTimeout))

	caches := observedCaches{}
	var configured []v1alpha3.RegistryCache
	for _, host := range observedHosts {
		caches[host] = startObservedUpstream(host)
		configured = append(configured, caches[host].configuration())
	}
	createCloudSecrets(ctx, caches[expiringHost].cloud)
	configureObserved(ctx, "observed-v1", configured)
	for host, cache := range caches {
		expectReady(ctx, host)
		cache.endpoint = cacheStatus(ctx, Default, host).Endpoint
	}
	roots := x509.NewCertPool()
	for _, authority := range nodeBundle() {
		roots.AddCert(authority)
	}
	caches[certificateHost].client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	shrinkVolume(ctx, fullHost)
	return caches
}

// mountMemory mounts a file system in memory until the end of the test.
func mountMemory(ctx context.Context, path, size string) {
	GinkgoHelper()
	command := here.Command(ctx, "sh", "-c", fmt.Sprintf("mkdir -p %[1]s && mount -t tmpfs -o mode=0777,size=%[2]s tmpfs %[1]s", path, size))
	output, err := command.CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), string(output))
	DeferCleanup(func(ctx context.Context) {
		// Pods may still use it.
		output, err := here.Command(ctx, "umount", "--lazy", path).CombinedOutput()
		Expect(err).NotTo(HaveOccurred(), string(output))
	})
}

// shrinkVolume replaces the volume of a cache by a small one. No pod may use the volume meanwhile: its mount would
// also be replaced, and end with the pod.
func shrinkVolume(ctx context.Context, host string) {
	GinkgoHelper()
	cordon(ctx, true)
	defer restore(ctx)
	key := cacheKey(host)
	key.Name += "-0"
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	Expect(c.Delete(ctx, pod)).To(Succeed())
	Eventually(ctx, func(g Gomega) {
		g.Expect(c.Get(ctx, key, pod)).To(Succeed())
		g.Expect(pod.Spec.NodeName).To(BeEmpty())
	}).Should(Succeed())
	mountMemory(ctx, volumePath(ctx, host), fmt.Sprint(smallVolume))
	cordon(ctx, false)
	expectReady(ctx, host)
}

// volumePath returns the path of a cache's volume on the node.
func volumePath(ctx context.Context, host string) string {
	GinkgoHelper()
	claim := &corev1.PersistentVolumeClaim{}
	key := cacheKey(host)
	key.Name = "cache-volume-" + key.Name + "-0"
	Expect(c.Get(ctx, key, claim)).To(Succeed())
	volume := &corev1.PersistentVolume{}
	Expect(c.Get(ctx, client.ObjectKey{Name: claim.Spec.VolumeName}, volume)).To(Succeed())
	return volume.Spec.Local.Path
}

// configureObserved configures the observed caches with a version of their credential.
func configureObserved(ctx context.Context, secret string, caches []v1alpha3.RegistryCache) {
	GinkgoHelper()
	for version, password := range map[string]string{"observed-v1": "right", "observed-v2": "wrong", "observed-v3": "right"} {
		Expect(garden.EnsureCredentials(ctx, c, version, "robot", password)).To(Succeed())
		DeferCleanup(func(ctx context.Context) error { return client.IgnoreNotFound(c.Delete(ctx, projectSecret(version))) })
	}
	shoot, err := garden.Shoot(here, caches...)
	Expect(err).NotTo(HaveOccurred())
	garden.AddSecret(shoot, observedReference, secret)
	garden.AddSecret(shoot, cloudKeyReference, cloudKeyReference)
	garden.AddSecret(shoot, cloudCAReference, cloudCAReference)
	Expect(garden.ApplyShoot(ctx, c, shoot)).To(Succeed())
}

func startObservedUpstream(host string) *observedCache {
	GinkgoHelper()
	if host == expiringHost {
		return startCloud()
	}
	var options upstreamsim.Options
	if host == rejectedHost {
		options.Authentication, options.Username, options.Password = upstreamsim.Basic, "robot", "right"
	}
	return newObservedCache(host, options)
}

// newObservedCache starts an upstream in the landscape.
func newObservedCache(host string, options upstreamsim.Options) *observedCache {
	GinkgoHelper()
	dial, err := evidence.Dialer(here)
	Expect(err).NotTo(HaveOccurred())
	options.Endpoint.Listen = net.JoinHostPort(here.IP(), "0")
	options.Listen, err = evidence.Listener(here)
	Expect(err).NotTo(HaveOccurred())
	registry, err := upstreamsim.Start(options)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(registry.Close)
	return &observedCache{
		host: host, upstream: registry,
		client: &http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: time.Minute},
	}
}

// configuration returns the configuration of the cache. Its endpoint is plain HTTP, except for the one with a
// certificate, which asks the upstream who may pull.
func (o *observedCache) configuration() v1alpha3.RegistryCache {
	cache := v1alpha3.RegistryCache{
		Upstream:  o.host,
		RemoteURL: new(o.upstream.URL()),
		HTTP:      &v1alpha3.HTTP{TLS: new(o.host == certificateHost)},
	}
	switch o.host {
	case expiringHost:
		cache.RemoteURL = nil
		cache.Proxy = &v1alpha3.Proxy{HTTPSProxy: new(o.cloud.ProxyURL())}
		cache.SecretReferenceName, cache.CABundleSecretReferenceName = new(cloudKeyReference), new(cloudCAReference)
	case rejectedHost:
		cache.SecretReferenceName = new(observedReference)
	case certificateHost:
		cache.Access = &v1alpha3.Access{Mode: v1alpha3.AccessPullSecrets}
	case replicatedHost:
		cache.HighAvailability = &v1alpha3.HighAvailability{Enabled: true}
	}
	return cache
}

// cacheStatus returns the status of an upstream's cache.
func cacheStatus(ctx context.Context, g Gomega, host string) registry.RegistryCacheStatus {
	GinkgoHelper()
	decoder, err := codec.New()
	g.Expect(err).NotTo(HaveOccurred())
	extension := &extensionsv1alpha1.Extension{}
	g.Expect(c.Get(ctx, client.ObjectKey{Namespace: seedNamespace, Name: registry.ExtensionType}, extension)).To(Succeed())
	status, err := decoder.DecodeStatus(extension.Status.ProviderStatus)
	g.Expect(err).NotTo(HaveOccurred())
	for _, cache := range status.Caches {
		if cache.Upstream == host {
			return cache
		}
	}
	g.Expect(status.Caches).To(ContainElement(HaveField("Upstream", host)))
	return registry.RegistryCacheStatus{}
}

// newImage adds an image to the upstream that the cache does not have.
func (o *observedCache) newImage(size int) (tag string, image upstreamsim.Image) {
	n := o.images.Add(1)
	tag, image = fmt.Sprint(n), upstreamsim.RandomImage(n, 1, size)
	o.upstream.Push(observedRepository, tag, image)
	return tag, image
}

// pull pulls an image as a node does. It returns the status of the first response that is no success.
func (o *observedCache) pull(ctx context.Context, tag string) (int, error) {
	content, status, err := o.get(ctx, "manifests/"+tag)
	if err != nil || status != http.StatusOK {
		return status, err
	}
	var manifest imagev1.Manifest
	if err := json.Unmarshal(content, &manifest); err != nil {
		return 0, err
	}
	for _, blob := range append(manifest.Layers, manifest.Config) {
		if _, status, err := o.get(ctx, "blobs/"+blob.Digest.String()); err != nil || status != http.StatusOK {
			return status, err
		}
	}
	return http.StatusOK, nil
}

func (o *observedCache) get(ctx context.Context, path string) (content []byte, status int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, o.endpoint+"/v2/"+observedRepository+"/"+path, nil)
	if err != nil {
		return nil, 0, err
	}
	request.Header.Set("Accept", strings.Join([]string{imagev1.MediaTypeImageManifest, imagev1.MediaTypeImageIndex}, ", "))
	response, err := o.client.Do(request)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = response.Body.Close() }()
	content, err = io.ReadAll(io.LimitReader(response.Body, 16<<20))
	return content, response.StatusCode, err
}

// hotRequests is the number of requests for the content of the cache whose hit ratio collapses: more than the alert
// requires.
const hotRequests = 1200

// pull pulls an image through each cache twice, and content that is in the cache many times through one.
func (o observedCaches) pull(ctx context.Context) {
	GinkgoHelper()
	for _, cache := range o {
		tag, image := cache.newImage(2 << 20)
		cache.hot = image
		for range 2 {
			Expect(cache.pull(ctx, tag)).To(Equal(http.StatusOK), cache.host)
		}
	}
	cold := o[coldHost]
	path := "blobs/" + cold.hot.Layers()[0].Descriptor().Digest.String()
	for range hotRequests {
		_, status, err := cold.get(ctx, path)
		Expect(err).NotTo(HaveOccurred())
		Expect(status).To(Equal(http.StatusOK))
	}
}
