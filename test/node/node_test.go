// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	nodeagentconfigv1alpha1 "github.com/gardener/gardener/pkg/apis/config/nodeagent/v1alpha1"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	"github.com/gardener/gardener/pkg/component/extensions/operatingsystemconfig/original/components/nodeagent"
	fakecontainerd "github.com/gardener/gardener/pkg/nodeagent/containerd/fake"
	"github.com/gardener/gardener/pkg/nodeagent/controller/operatingsystemconfig"
	fakedbus "github.com/gardener/gardener/pkg/nodeagent/dbus/fake"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/spf13/afero"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	fakeclient "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/larder-project/larder/pkg/apis/mirror/codec"
	"github.com/larder-project/larder/pkg/apis/registry"
	registrycodec "github.com/larder-project/larder/pkg/apis/registry/codec"
	"github.com/larder-project/larder/pkg/webhook/osc"
	"github.com/larder-project/larder/pkg/webhook/osc/osctest"
	"github.com/larder-project/larder/test/pki"
)

const (
	namespace    = "shoot--dev--example"
	certificates = "/etc/containerd/certs.d"
)

// writes are the changes of files below the directory of containerd's registries, in their order.
type writes struct {
	afero.Fs
	log []string
}

func (w *writes) note(what, path string) {
	if strings.HasPrefix(path, certificates) {
		w.log = append(w.log, what+" "+strings.TrimPrefix(path, certificates+"/"))
	}
}

func (w *writes) OpenFile(name string, flag int, perm os.FileMode) (afero.File, error) {
	if flag&os.O_WRONLY != 0 {
		w.note("write", name)
	}
	return w.Fs.OpenFile(name, flag, perm)
}

func (w *writes) Rename(from, to string) error {
	w.note("write", to)
	return w.Fs.Rename(from, to)
}

func (w *writes) Remove(name string) error {
	w.note("remove", name)
	return w.Fs.Remove(name)
}

func (w *writes) RemoveAll(name string) error {
	w.note("remove", name)
	return w.Fs.RemoveAll(name)
}

var _ = Describe("A node", func() {
	var (
		ctx     context.Context
		files   *writes
		cluster client.Client
		agent   *operatingsystemconfig.Reconciler
		bundles map[string][]byte
	)

	BeforeEach(func(specContext SpecContext) {
		ctx = specContext
		files = &writes{Fs: afero.NewMemMapFs()}
		for name, content := range map[string]string{
			"/etc/containerd/config.toml":        "version = 3\n",
			certificates + "/ghcr.io/hosts.toml": "server = \"https://written-by-hand.example.com\"\n",
		} {
			Expect(afero.WriteFile(files.Fs, name, []byte(content), 0o600)).To(Succeed())
		}
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node", Labels: map[string]string{corev1.LabelHostname: "node"}}}
		cluster = fakeclient.NewClientBuilder().WithScheme(kubernetes.SeedScheme).WithObjects(node).Build()
		agent = &operatingsystemconfig.Reconciler{
			APIReader:        cluster,
			Client:           cluster,
			LeaseClient:      cluster,
			ContainerdClient: fakecontainerd.NewClient(),
			Config: nodeagentconfigv1alpha1.OperatingSystemConfigControllerConfig{
				SyncPeriod: &metav1.Duration{Duration: time.Hour}, KubernetesVersion: semver.MustParse("1.36.3"),
			},
			Clock:         clock.RealClock{},
			Recorder:      &events.FakeRecorder{},
			DBus:          fakedbus.New(),
			FS:            afero.Afero{Fs: files},
			HostName:      "node",
			NodeName:      "node",
			CancelContext: func() {},
		}
		bundles = map[string][]byte{}
		for _, name := range []string{"ca-v1", "ca-v2"} {
			authority, err := pki.NewAuthority(name)
			Expect(err).NotTo(HaveOccurred())
			bundles[name] = authority.Certificate
		}
	})

	newOSC := func() *extensionsv1alpha1.OperatingSystemConfig {
		return &extensionsv1alpha1.OperatingSystemConfig{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "pool"},
			Spec: extensionsv1alpha1.OperatingSystemConfigSpec{
				Purpose: extensionsv1alpha1.OperatingSystemConfigPurposeReconcile,
				CRIConfig: &extensionsv1alpha1.CRIConfig{
					Name:       extensionsv1alpha1.CRINameContainerD,
					Containerd: &extensionsv1alpha1.ContainerdConfig{SandboxImage: "registry.example.com/pause:1"},
				},
			},
		}
	}
	// withMirrors returns an OperatingSystemConfig that gardenlet writes from scratch.
	withMirrors := func(mirrors, caSecret string) *extensionsv1alpha1.OperatingSystemConfig {
		GinkgoHelper()
		shoot, err := json.Marshal(&gardencorev1beta1.Shoot{
			TypeMeta: metav1.TypeMeta{APIVersion: gardencorev1beta1.SchemeGroupVersion.String(), Kind: "Shoot"},
			Spec: gardencorev1beta1.ShootSpec{Resources: []gardencorev1beta1.NamedResourceReference{{
				Name: "mirror-ca", ResourceRef: autoscalingv1.CrossVersionObjectReference{APIVersion: "v1", Kind: "Secret", Name: caSecret},
			}}},
		})
		Expect(err).NotTo(HaveOccurred())
		seed := fakeclient.NewClientBuilder().WithScheme(kubernetes.SeedScheme).WithObjects(
			&extensionsv1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: namespace}, Spec: extensionsv1alpha1.ClusterSpec{Shoot: runtime.RawExtension{Raw: shoot}}},
			&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "ref-" + caSecret}, Immutable: new(true), Data: map[string][]byte{"bundle.crt": bundles[caSecret]}},
			&extensionsv1alpha1.Extension{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "registry-mirror"},
				Spec: extensionsv1alpha1.ExtensionSpec{DefaultSpec: extensionsv1alpha1.DefaultSpec{ProviderConfig: &runtime.RawExtension{
					Raw: []byte(`{"apiVersion":"mirror.extensions.gardener.cloud/v1alpha1","kind":"MirrorConfig","mirrors":[` + mirrors + `]}`),
				}}},
			},
		).Build()
		decoder, err := codec.New()
		Expect(err).NotTo(HaveOccurred())
		object := newOSC()
		Expect((&osc.Mutator{Reader: seed, Source: osc.Mirrors{Codec: decoder}}).Mutate(ctx, object, nil)).To(Succeed())
		return object
	}
	// addCache adds a cache for docker.io with TLS.
	addCache := func(object *extensionsv1alpha1.OperatingSystemConfig, endpoint string, caBundle []byte) {
		GinkgoHelper()
		shoot, err := json.Marshal(&gardencorev1beta1.Shoot{TypeMeta: metav1.TypeMeta{APIVersion: gardencorev1beta1.SchemeGroupVersion.String(), Kind: "Shoot"}})
		Expect(err).NotTo(HaveOccurred())
		decoder, err := registrycodec.New()
		Expect(err).NotTo(HaveOccurred())
		status, err := decoder.EncodeStatus(&registry.RegistryStatus{
			CASecretName: new("caches-ca"),
			Caches:       []registry.RegistryCacheStatus{{Upstream: "docker.io", Endpoint: endpoint, RemoteURL: "https://registry-1.docker.io"}},
		})
		Expect(err).NotTo(HaveOccurred())
		seed := fakeclient.NewClientBuilder().WithScheme(kubernetes.SeedScheme).WithObjects(
			&extensionsv1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: namespace}, Spec: extensionsv1alpha1.ClusterSpec{Shoot: runtime.RawExtension{Raw: shoot}}},
			&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "caches-ca"}, Data: map[string][]byte{"bundle.crt": caBundle}},
			&extensionsv1alpha1.Extension{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "registry-cache"},
				Status:     extensionsv1alpha1.ExtensionStatus{DefaultStatus: extensionsv1alpha1.DefaultStatus{ProviderStatus: status}},
			},
		).Build()
		Expect((&osc.Mutator{Reader: seed, Source: osc.Caches{Codec: decoder}}).Mutate(ctx, object, nil)).To(Succeed())
	}
	apply := func(object *extensionsv1alpha1.OperatingSystemConfig) {
		GinkgoHelper()
		secret, err := nodeagent.OperatingSystemConfigSecret(ctx, nil, object, "osc", "pool", false)
		Expect(err).NotTo(HaveOccurred())
		Expect(client.IgnoreNotFound(cluster.Delete(ctx, secret.DeepCopy()))).To(Succeed())
		Expect(cluster.Create(ctx, secret)).To(Succeed())
		files.log = nil
		// A failed probe is retried until the context ends.
		ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
		defer cancel()
		_, err = agent.Reconcile(ctx, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(secret)})
		Expect(err).NotTo(HaveOccurred())
	}
	tree := func() map[string]string {
		GinkgoHelper()
		contents := map[string]string{}
		Expect(afero.Walk(files.Fs, certificates, func(path string, info fs.FileInfo, err error) error {
			if err != nil || info.IsDir() {
				return err
			}
			data, err := afero.ReadFile(files.Fs, path)
			contents[strings.TrimPrefix(path, certificates+"/")] = string(data)
			return err
		})).To(Succeed())
		return contents
	}
	// caFile returns the name of the only file with a CA bundle.
	caFile := func() string {
		GinkgoHelper()
		var names []string
		for name := range tree() {
			if strings.HasPrefix(name, "registry-mirror-ca-") {
				names = append(names, name)
			}
		}
		Expect(names).To(HaveLen(1))
		return names[0]
	}

	const mirrors = `{"upstream":"docker.io","hosts":[
		{"host":"https://first.example.com/v2/hub","capabilities":["pull","resolve"],"overridePath":true,"caBundleSecretReferenceName":"mirror-ca"},
		{"host":"http://[fd00::1]:5000"}]}`

	It("gets mirrors in order, and is as before when they are removed", func() {
		apply(newOSC())
		before := tree()

		apply(withMirrors(mirrors, "ca-v1"))
		after := tree()
		Expect(after).To(HaveKeyWithValue("docker.io/hosts.toml", fmt.Sprintf(`# managed by gardener-node-agent
server = "https://registry-1.docker.io"

[host."https://first.example.com/v2/hub"]
  capabilities = ["pull","resolve"]
  ca = ["/etc/containerd/certs.d/%s"]
  override_path = true

[host."http://[fd00::1]:5000"]
  capabilities = ["pull"]

`, caFile())))
		Expect(after).To(HaveKeyWithValue(caFile(), string(bundles["ca-v1"])))

		apply(newOSC())
		Expect(tree()).To(Equal(before))
		exists, err := afero.Exists(files.Fs, certificates+"/docker.io")
		Expect(err).NotTo(HaveOccurred())
		Expect(exists).To(BeFalse())
	})

	It("gets a rotated CA bundle before its hosts.toml refers to it, and loses the old one last", func() {
		apply(withMirrors(mirrors, "ca-v1"))
		old := caFile()
		apply(withMirrors(mirrors, "ca-v2"))
		Expect(caFile()).NotTo(Equal(old))
		Expect(files.log).To(Equal([]string{"write " + caFile(), "write docker.io/hosts.toml", "remove " + old}))
		Expect(tree()).To(HaveKeyWithValue("docker.io/hosts.toml", And(ContainSubstring(caFile()), Not(ContainSubstring(old)))))
	})

	It("asks a peer-to-peer host first", func() {
		object := withMirrors(`{"upstream":"docker.io","hosts":[{"host":"https://first.example.com"}]}`, "ca-v1")
		osctest.PeerToPeer(object)
		apply(object)
		hosts := tree()["docker.io/hosts.toml"]
		Expect(strings.Index(hosts, osctest.PeerURL)).To(And(BeNumerically(">", 0), BeNumerically("<", strings.Index(hosts, "https://first.example.com"))))
	})

	It("uses a cache with TLS beside a host of others with another CA, which the node agent cannot probe", func() {
		serve := func(authority *pki.Authority) *httptest.Server {
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			pair, err := authority.Issue(pki.Request{Hosts: []string{"127.0.0.1"}})
			Expect(err).NotTo(HaveOccurred())
			certificate, err := pair.TLS()
			Expect(err).NotTo(HaveOccurred())
			server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
			server.StartTLS()
			DeferCleanup(server.Close)
			return server
		}
		cacheAuthority, err := pki.NewAuthority("caches")
		Expect(err).NotTo(HaveOccurred())
		otherAuthority, err := pki.NewAuthority("other")
		Expect(err).NotTo(HaveOccurred())
		cache, other := serve(cacheAuthority), serve(otherAuthority)

		object := newOSC()
		object.Spec.CRIConfig.Containerd.Registries = []extensionsv1alpha1.RegistryConfig{{
			Upstream: "docker.io", ReadinessProbe: new(true), Hosts: []extensionsv1alpha1.RegistryHost{{URL: other.URL}},
		}}
		addCache(object, cache.URL, cacheAuthority.Certificate)
		apply(object)
		Expect(tree()).To(HaveKeyWithValue("docker.io/hosts.toml", And(ContainSubstring(cache.URL), ContainSubstring(other.URL))))
	})
})
