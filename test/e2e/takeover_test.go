// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	resourcesv1alpha1 "github.com/gardener/gardener/pkg/apis/resources/v1alpha1"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	"github.com/gardener/gardener/pkg/utils/kubernetes/health"
	"github.com/gardener/gardener/pkg/utils/managedresources"
	secretsutils "github.com/gardener/gardener/pkg/utils/secrets"
	secretsmanager "github.com/gardener/gardener/pkg/utils/secrets/manager"
	"github.com/go-logr/logr"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/larder-project/larder/pkg/apis/mirror"
	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/upstream"
	"github.com/larder-project/larder/test/cacheprocess"
	"github.com/larder-project/larder/test/landscape/evidence"
	"github.com/larder-project/larder/test/landscape/garden"
	"github.com/larder-project/larder/test/landscape/image"
	"github.com/larder-project/larder/test/pki"
	"github.com/larder-project/larder/test/takeover"
)

var _ = Describe("Another implementation", func() {
	var other *otherImplementation

	BeforeEach(func(ctx context.Context) {
		configure(ctx)
		extension := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: garden.ExtensionNamespace, Name: "gardener-extension-registry-cache"}}
		Expect(c.Get(ctx, client.ObjectKeyFromObject(extension), extension)).To(Succeed())
		other = newOtherImplementation(ctx, extension)
	}, NodeTimeout(journeyTimeout))

	AfterEach(func(ctx context.Context) {
		if other == nil {
			return
		}
		other.leave(ctx)
		configure(ctx) // Remove its volume.
	}, NodeTimeout(journeyTimeout))

	// Its pods have no probes, so nodes use the upstream while a pod is replaced.
	It("is replaced, and replaces again, without a failed pull and with warm caches", Label("takeover"), func(ctx context.Context) {
		By("using the other implementation")
		other.enter(ctx)
		shoot, err := garden.Shoot(here, garden.Cache(garden.PrivateHost))
		Expect(err).NotTo(HaveOccurred())
		Expect(garden.AddMirrors(shoot, other.caSecret)).To(Succeed())
		shoot.Spec.Extensions[1].ProviderConfig = &runtime.RawExtension{Raw: other.mirrorConfig}
		Expect(garden.ApplyShoot(ctx, c, shoot)).To(Succeed())
		expectReady(ctx, garden.PrivateHost)
		left := nodeRegistries()
		Expect(left).To(HaveLen(5), "three hosts.toml, the CA of the caches and the CA of a mirror")
		oldCA := nodeBundle()
		Expect(oldCA).To(HaveLen(1))
		kept := keptObjects(ctx)
		warm := newImage(ctx, garden.PrivateHost)
		pull(ctx, warm)
		expectWarm(ctx, warm)
		mirrored := newMirroredImage(ctx, garden.BasicHost, other.mirror)
		pull(ctx, mirrored.reference, pullSecret(ctx, garden.BasicHost))
		mirrored.expectRequests(other.mirror, "GET "+mirrored.digest)

		log := accessLog()
		load := startNodeImagePulls(ctx, pushImages(ctx, garden.PrivateHost, 5), pushImages(ctx, garden.BasicHost, 5, other.mirror))
		load.awaitPulls(ctx, 20)

		By("starting this implementation")
		other.leave(ctx)
		Expect(cacheImage(ctx)).To(Equal(other.image), "Shoots move when they are reconciled")
		reconcileShoot(ctx)
		expectTakenOver := func() {
			GinkgoHelper()
			Eventually(ctx, func() string { return cacheImage(ctx) }).ShouldNot(Equal(other.image))
			expectReady(ctx, garden.PrivateHost)
			Expect(keptObjects(ctx)).To(Equal(kept))
			Expect(mirrorsWithoutCAs(nodeRegistries())).To(Equal(mirrorsWithoutCAs(left)), "the path of the CA of a mirror differs")
			Expect(nodeRegistries()).To(HaveKeyWithValue(evidence.HostsFile(here, garden.PrivateHost),
				And(HavePrefix("# managed by registry-cache-hosts.service\n"), ContainSubstring("'"+providerStatus(ctx).Endpoint+"'"))))
			Expect(nodeBundle()).To(ContainElement(oldCA[0]))
			Eventually(ctx, func() error { return serves(ctx, oldCA) }).Should(Succeed(), "nodes that have not been updated trust the cache")
		}
		expectTakenOver()
		expectWarm(ctx, warm)
		load.awaitPulls(ctx, 20)

		By("going back to the other implementation")
		other.enter(ctx)
		reconcileShoot(ctx)
		Eventually(ctx, func() string { return cacheImage(ctx) }).Should(Equal(other.image))
		expectReady(ctx, garden.PrivateHost)
		Expect(keptObjects(ctx)).To(Equal(kept))
		Expect(nodeRegistries()).To(HaveLen(len(left)))
		for path, content := range nodeRegistries() {
			if path == nodeBundleFile() {
				Expect(nodeBundle()).To(ContainElement(oldCA[0]))
			} else {
				Expect(left).To(HaveKeyWithValue(path, content))
			}
		}
		Eventually(ctx, func() error { return serves(ctx, nodeBundle()) }).Should(Succeed())
		expectWarm(ctx, warm)
		load.awaitPulls(ctx, 20)

		result := load.stop()
		requests, err := log.Requests("/" + mirroredRepository + "/")
		Expect(err).NotTo(HaveOccurred())
		byNode := slices.DeleteFunc(requests, func(request evidence.Request) bool {
			return request.Client != here.IP() || request.Registry != "private" || request.Method != http.MethodHead || request.Status != http.StatusOK
		})
		AddReportEntry("takeover", fmt.Sprintf("%d pulls in %s, %d failed; for %d, the node asked the upstream while a pod of the cache was replaced",
			result.pulls, result.duration.Round(time.Second), len(result.failures), len(byNode)))
		Expect(result.failures).To(BeEmpty())

		By("replacing it again, for good")
		other.leave(ctx)
		reconcileShoot(ctx)
		expectTakenOver()
		expectWarm(ctx, warm)
	}, SpecTimeout(journeyTimeout))
})

// keptObjects returns the UIDs of the objects of the cache that a takeover keeps, the address of the Service and the
// volume.
func keptObjects(ctx context.Context) []string {
	GinkgoHelper()
	key := cacheKey(garden.PrivateHost)
	service := &corev1.Service{}
	Expect(c.Get(ctx, key, service)).To(Succeed())
	claims := &corev1.PersistentVolumeClaimList{}
	Expect(c.List(ctx, claims, client.InNamespace(key.Namespace))).To(Succeed())
	Expect(claims.Items).To(HaveLen(1))
	claim := claims.Items[0]
	Expect(claim.Name).To(Equal("cache-volume-" + key.Name + "-0"))
	return []string{string(service.UID), service.Spec.ClusterIP, string(claim.UID), claim.Spec.VolumeName}
}

// cacheImage returns the image of the cache.
func cacheImage(ctx context.Context) string {
	GinkgoHelper()
	set := &appsv1.StatefulSet{}
	if err := c.Get(ctx, cacheKey(garden.PrivateHost), set); err != nil {
		return err.Error() // gardener-resource-manager is replacing it.
	}
	return set.Spec.Template.Spec.Containers[0].Image
}

// expectWarm pulls an image that is in the cache. The upstream may only be asked whether its tag is still the same.
func expectWarm(ctx context.Context, image string) {
	GinkgoHelper()
	log := accessLog()
	pull(ctx, image)
	for _, request := range upstreamRequests(log) {
		Expect(request.Method+" "+request.Path).To(HavePrefix("HEAD /v2/"+repository+"/manifests/"), request.Line)
		Expect(request.Client).To(BeElementOf(addresses(ctx, garden.PrivateHost)), request.Line)
	}
}

// mirrorsWithoutCAs returns the content of the hosts.toml files of mirrors without the lines with CA files.
func mirrorsWithoutCAs(files map[string]string) map[string]string {
	hosts := map[string]string{}
	for path, content := range files {
		if filepath.Base(path) == "hosts.toml" && path != evidence.HostsFile(here, garden.PrivateHost) {
			lines := slices.DeleteFunc(strings.Split(content, "\n"), func(line string) bool { return strings.HasPrefix(line, "  ca = ") })
			hosts[path] = strings.Join(lines, "\n")
		}
	}
	return hosts
}

// otherImplementation stands for the implementation of both types from which landscapes move: it deploys the objects
// of test/takeover, with the upstreams of the landscape and stock Distribution as the image. Test code performs what
// its controller and its webhook do.
type otherImplementation struct {
	extension *appsv1.Deployment
	replicas  int32
	// image is the image of its caches.
	image        string
	mirror       *mirrorHost
	caSecret     string
	mirrorConfig []byte
	mirrorCA     []byte

	// url and ca are those of the server of its webhook.
	url string
	ca  []byte
	// osc has what the webhook adds.
	osc    *extensionsv1alpha1.OperatingSystemConfig
	status []byte
	stop   func()
}

func newOtherImplementation(ctx context.Context, extension *appsv1.Deployment) *otherImplementation {
	GinkgoHelper()
	o := &otherImplementation{extension: extension, replicas: *extension.Spec.Replicas, caSecret: "mirror-ca-takeover", stop: func() {}}
	ca, certificate := mirrorAuthority("takeover")
	o.mirrorCA, o.mirror = ca, startMirror(certificate)
	secret := projectSecret(o.caSecret)
	secret.Immutable, secret.Data = new(true), map[string][]byte{"bundle.crt": ca}
	Expect(c.Create(ctx, secret)).To(Succeed())
	DeferCleanup(func(ctx context.Context) error { return client.IgnoreNotFound(c.Delete(ctx, secret)) })
	config, err := takeover.MirrorConfig()
	Expect(err).NotTo(HaveOccurred())
	o.mirrorConfig = []byte(o.localize("").Replace(string(config)))

	stock, err := cacheprocess.Build(ctx, cacheprocess.Stock)
	Expect(err).NotTo(HaveOccurred())
	authority, _, err := here.CA()
	Expect(err).NotTo(HaveOccurred())
	program, err := image.New(stock.Binary, authority)
	Expect(err).NotTo(HaveOccurred())
	file, err := program.ConfigFile()
	Expect(err).NotTo(HaveOccurred())
	file = file.DeepCopy()
	file.Config.User, file.Config.Cmd = "", []string{"serve", "/etc/distribution/config.yml"}
	program.Image, err = mutate.ConfigFile(program.Image, file)
	Expect(err).NotTo(HaveOccurred())
	Expect(program.Import(ctx, here)).To(Succeed())
	o.image = program.Reference
	o.serve()
	return o
}

// localize replaces the registries of the objects by those of the landscape.
func (o *otherImplementation) localize(address string) *strings.Replacer {
	host := upstream.Upstream(garden.PrivateHost)
	mirrorName := strings.TrimPrefix(o.mirror.URL(), "https://")
	return strings.NewReplacer(
		"https://registry-1.docker.io", "https://"+garden.PrivateHost,
		"registry-docker-io", host.ResourceName(),
		`"upstream-host":"docker.io"`, `"upstream-host":"`+host.LabelValue()+`"`,
		"docker.io", garden.PrivateHost,
		"example.com/registry:3", o.image,
		"ADDRESS", address,
		"registry.example.com:5443", garden.BasicHost,
		"registry.example.com-5443", strings.ReplaceAll(garden.BasicHost, ":", "-"),
		"https://private.example.com:8443", o.mirror.URL(),
		"private.example.com-8443", strings.ReplaceAll(mirrorName, ":", "-"),
	)
}

// enter replaces this implementation.
func (o *otherImplementation) enter(ctx context.Context) {
	GinkgoHelper()
	scale(ctx, o.extension, 0)
	webhooks := &admissionregistrationv1.MutatingWebhookConfiguration{}
	Expect(c.Get(ctx, client.ObjectKey{Name: o.extension.Name}, webhooks)).To(Succeed())
	patch := client.MergeFrom(webhooks.DeepCopy())
	webhooks.Webhooks = slices.DeleteFunc(webhooks.Webhooks, func(webhook admissionregistrationv1.MutatingWebhook) bool {
		return !strings.HasPrefix(webhook.Name, "operatingsystemconfig.")
	})
	Expect(webhooks.Webhooks).To(HaveLen(1))
	webhooks.Webhooks[0].ClientConfig = admissionregistrationv1.WebhookClientConfig{URL: &o.url, CABundle: o.ca}
	Expect(c.Patch(ctx, webhooks, patch)).To(Succeed())

	services, err := takeover.Services()
	Expect(err).NotTo(HaveOccurred())
	o.deploy(ctx, "extension-registry-cache-services", services...)
	service := &corev1.Service{}
	Eventually(ctx, func() error { return c.Get(ctx, cacheKey(garden.PrivateHost), service) }).Should(Succeed())
	address := service.Spec.ClusterIP
	server, bundle := issueCertificates(ctx, address)
	caches, err := takeover.Caches()
	Expect(err).NotTo(HaveOccurred())
	certificate := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: service.Namespace, Name: service.Name + "-tls-0a1b2c3d", Labels: service.Spec.Selector},
		Data:       map[string][]byte{"tls.crt": server.Data["tls.crt"], "tls.key": server.Data["tls.key"]},
	}
	o.deploy(ctx, managedResourceKey.Name, append(caches, certificate)...)

	o.osc = o.operatingSystemConfig(address, bundle.Data["bundle.crt"])
	status, err := takeover.Status("ADDRESS", bundle.Name)
	Expect(err).NotTo(HaveOccurred())
	o.status = []byte(o.localize(address).Replace(string(status)))
	o.control(ctx)
}

// leave starts this implementation in place of the other one.
func (o *otherImplementation) leave(ctx context.Context) {
	GinkgoHelper()
	o.stop()
	Expect(c.Get(ctx, client.ObjectKeyFromObject(o.extension), o.extension)).To(Succeed())
	scale(ctx, o.extension, o.replicas)
	webhooks := &admissionregistrationv1.MutatingWebhookConfiguration{}
	Eventually(ctx, func(g Gomega) {
		g.Expect(c.Get(ctx, client.ObjectKey{Name: o.extension.Name}, webhooks)).To(Succeed())
		g.Expect(webhooks.Webhooks).To(HaveLen(2))
		for _, webhook := range webhooks.Webhooks {
			g.Expect(webhook.ClientConfig.Service).NotTo(BeNil())
		}
	}).Should(Succeed())
}

// issueCertificates returns the certificate of the cache and the CA bundle.
func issueCertificates(ctx context.Context, address string) (server, bundle *corev1.Secret) {
	GinkgoHelper()
	const authority = "ca-extension-registry-cache"
	manager, err := secretsmanager.New(ctx, logr.Discard(), clock.RealClock{}, c, "extension-registry-cache", secretsmanager.WithNamespaces(seedNamespace))
	Expect(err).NotTo(HaveOccurred())
	_, err = manager.Generate(ctx, &secretsutils.CertificateSecretConfig{
		Name: authority, CommonName: authority, CertType: secretsutils.CACert, Validity: new(365 * 24 * time.Hour),
	}, secretsmanager.Persist(), secretsmanager.Rotate(secretsmanager.KeepOld))
	Expect(err).NotTo(HaveOccurred())
	name := cacheKey(garden.PrivateHost).Name
	server, err = manager.Generate(ctx, &secretsutils.CertificateSecretConfig{
		Name: name + "-tls", CommonName: name, CertType: secretsutils.ServerCert, Validity: new(30 * 24 * time.Hour),
		IPAddresses: []net.IP{net.ParseIP(address)}, SkipPublishingCACertificate: true,
	}, secretsmanager.SignedByCA(authority))
	Expect(err).NotTo(HaveOccurred())
	bundle, found := manager.Get(authority)
	Expect(found).To(BeTrue())
	return server, bundle
}

// deploy deploys objects by a ManagedResource.
func (o *otherImplementation) deploy(ctx context.Context, name string, objects ...client.Object) {
	GinkgoHelper()
	username, password, err := here.Puller()
	Expect(err).NotTo(HaveOccurred())
	for _, object := range objects {
		content, err := json.Marshal(object)
		Expect(err).NotTo(HaveOccurred())
		Expect(json.Unmarshal([]byte(o.localize("").Replace(string(content))), object)).To(Succeed())
		switch object := object.(type) {
		case *corev1.Secret:
			if object.StringData["config.yml"] == "" {
				continue
			}
			config := map[string]map[string]any{}
			Expect(yaml.Unmarshal([]byte(strings.Replace(object.StringData["config.yml"], "version: 0.1\n", "", 1)), &config)).To(Succeed())
			config["proxy"]["username"], config["proxy"]["password"] = username, password
			config["http"]["tls"] = map[string]string{"certificate": "/etc/distribution/tls/tls.crt", "key": "/etc/distribution/tls/tls.key"}
			content, err := yaml.Marshal(config)
			Expect(err).NotTo(HaveOccurred())
			object.StringData, object.Data = nil, map[string][]byte{"config.yml": append([]byte("version: 0.1\n"), content...)}
		case *appsv1.StatefulSet:
			spec := &object.Spec.Template.Spec
			spec.Containers[0].VolumeMounts = append(spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: "tls", MountPath: "/etc/distribution/tls"})
			spec.Volumes = append(spec.Volumes, corev1.Volume{Name: "tls", VolumeSource: corev1.VolumeSource{
				Secret: &corev1.SecretVolumeSource{SecretName: object.Name + "-tls-0a1b2c3d"},
			}})
		}
	}
	data, err := managedresources.NewRegistry(kubernetes.ShootScheme, kubernetes.ShootCodec, kubernetes.ShootSerializer).AddAllAndSerialize(objects...)
	Expect(err).NotTo(HaveOccurred())
	secretName, secret := managedresources.NewSecret(c, seedNamespace, name, data, true)
	Expect(secret.Reconcile(ctx)).To(Succeed())
	Expect(managedresources.NewForShoot(c, seedNamespace, name, "registry-cache", false).WithSecretRef(secretName).DeletePersistentVolumeClaims(true).Reconcile(ctx)).To(Succeed())
	Eventually(ctx, func(g Gomega) {
		resource := &resourcesv1alpha1.ManagedResource{}
		g.Expect(c.Get(ctx, client.ObjectKey{Namespace: seedNamespace, Name: name}, resource)).To(Succeed())
		g.Expect(health.CheckManagedResourceApplied(resource)).To(Succeed())
	}).Should(Succeed())
}

func (o *otherImplementation) operatingSystemConfig(address string, cachesCA []byte) *extensionsv1alpha1.OperatingSystemConfig {
	GinkgoHelper()
	golden, err := takeover.OperatingSystemConfig("ADDRESS", base64.StdEncoding.EncodeToString(cachesCA), base64.StdEncoding.EncodeToString(o.mirrorCA))
	Expect(err).NotTo(HaveOccurred())
	content, err := json.Marshal(golden)
	Expect(err).NotTo(HaveOccurred())
	osc := &extensionsv1alpha1.OperatingSystemConfig{}
	Expect(json.Unmarshal([]byte(o.localize(address).Replace(string(content))), osc)).To(Succeed())
	return osc
}

// control reports the Extensions as reconciled until stop.
func (o *otherImplementation) control(ctx context.Context) {
	GinkgoHelper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	o.stop = func() { cancel(); <-done }
	go func() {
		defer close(done)
		ticker := time.NewTicker(250 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			for _, kind := range []string{registry.ExtensionType, mirror.ExtensionType} {
				if err := o.report(ctx, kind); client.IgnoreNotFound(err) != nil && ctx.Err() == nil {
					GinkgoLogr.Error(err, "Failed to report an Extension as reconciled")
				}
			}
		}
	}()
}

func (o *otherImplementation) report(ctx context.Context, kind string) error {
	extension := &extensionsv1alpha1.Extension{}
	if err := c.Get(ctx, client.ObjectKey{Namespace: seedNamespace, Name: kind}, extension); err != nil {
		return err
	}
	if _, ok := extension.Annotations[v1beta1constants.GardenerOperation]; !ok {
		return nil
	}
	patch := client.MergeFrom(extension.DeepCopy())
	delete(extension.Annotations, v1beta1constants.GardenerOperation)
	if err := c.Patch(ctx, extension, patch); err != nil {
		return err
	}
	patch = client.MergeFrom(extension.DeepCopy())
	extension.Status.ObservedGeneration, extension.Status.LastError = extension.Generation, nil
	extension.Status.LastOperation = &gardencorev1beta1.LastOperation{
		Type: gardencorev1beta1.LastOperationTypeReconcile, State: gardencorev1beta1.LastOperationStateSucceeded,
		Progress: 100, LastUpdateTime: metav1.Now(), Description: "Reconciled by the other implementation.",
	}
	if kind == registry.ExtensionType {
		extension.Status.ProviderStatus = &runtime.RawExtension{Raw: o.status}
	}
	return c.Status().Patch(ctx, extension, patch)
}

// serve serves the webhook for OperatingSystemConfigs until the end of the journey.
func (o *otherImplementation) serve() {
	GinkgoHelper()
	authority, err := pki.NewAuthority("other")
	Expect(err).NotTo(HaveOccurred())
	address := here.Network().Host().String()
	pair, err := authority.Issue(pki.Request{CommonName: "webhook", Hosts: []string{address}})
	Expect(err).NotTo(HaveOccurred())
	certificate, err := pair.TLS()
	Expect(err).NotTo(HaveOccurred())
	listener, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	Expect(err).NotTo(HaveOccurred())
	server := &http.Server{
		Handler:           http.HandlerFunc(o.review),
		ReadHeaderTimeout: time.Minute,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
	}
	go func() { _ = server.ServeTLS(listener, "", "") }()
	DeferCleanup(server.Close)
	o.url, o.ca = "https://"+listener.Addr().String()+"/", authority.Certificate
}

func (o *otherImplementation) review(w http.ResponseWriter, r *http.Request) {
	review := &admissionv1.AdmissionReview{}
	if err := json.NewDecoder(r.Body).Decode(review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
	osc := &extensionsv1alpha1.OperatingSystemConfig{}
	if err := json.Unmarshal(review.Request.Object.Raw, osc); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if osc.Spec.Purpose == extensionsv1alpha1.OperatingSystemConfigPurposeReconcile {
		files := slices.DeleteFunc(osc.Spec.Files, func(file extensionsv1alpha1.File) bool {
			return strings.HasPrefix(file.Path, "/etc/containerd/certs.d/")
		})
		patch, err := json.Marshal([]map[string]any{
			{"op": "add", "path": "/spec/criConfig/containerd/registries", "value": o.osc.Spec.CRIConfig.Containerd.Registries},
			{"op": "add", "path": "/spec/files", "value": append(files, o.osc.Spec.Files...)},
		})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		review.Response.Patch, review.Response.PatchType = patch, new(admissionv1.PatchTypeJSONPatch)
	}
	_ = json.NewEncoder(w).Encode(review)
}
