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

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	fakedbus "github.com/gardener/gardener/pkg/nodeagent/dbus/fake"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/spf13/afero"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	fakeclient "sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/larder-project/larder/pkg/apis/mirror/codec"
	"github.com/larder-project/larder/pkg/webhook/osc"
	"github.com/larder-project/larder/pkg/webhook/osc/osctest"
	"github.com/larder-project/larder/test/nodewebhook"
	"github.com/larder-project/larder/test/pki"
)

const certificates = "/etc/containerd/certs.d"

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
		node    *machine
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
		node = newMachine(files, fakedbus.New())
		bundles = map[string][]byte{}
		for _, name := range []string{"ca-v1", "ca-v2"} {
			authority, err := pki.NewAuthority(name)
			Expect(err).NotTo(HaveOccurred())
			bundles[name] = authority.Certificate
		}
	})

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
			&extensionsv1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: nodewebhook.Namespace}, Spec: extensionsv1alpha1.ClusterSpec{Shoot: runtime.RawExtension{Raw: shoot}}},
			&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: nodewebhook.Namespace, Name: "ref-" + caSecret}, Immutable: new(true), Data: map[string][]byte{"bundle.crt": bundles[caSecret]}},
			&extensionsv1alpha1.Extension{
				ObjectMeta: metav1.ObjectMeta{Namespace: nodewebhook.Namespace, Name: "registry-mirror"},
				Spec: extensionsv1alpha1.ExtensionSpec{DefaultSpec: extensionsv1alpha1.DefaultSpec{ProviderConfig: &runtime.RawExtension{
					Raw: []byte(`{"apiVersion":"mirror.extensions.gardener.cloud/v1alpha1","kind":"MirrorConfig","mirrors":[` + mirrors + `]}`),
				}}},
			},
		).Build()
		decoder, err := codec.New()
		Expect(err).NotTo(HaveOccurred())
		object := nodewebhook.NewOSC()
		Expect((&osc.Mutator{Reader: seed, Source: osc.Mirrors{Codec: decoder}}).Mutate(ctx, object, nil)).To(Succeed())
		return object
	}
	apply := func(object *extensionsv1alpha1.OperatingSystemConfig) {
		GinkgoHelper()
		files.log = nil
		node.apply(ctx, object)
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
		apply(nodewebhook.NewOSC())
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

		apply(nodewebhook.NewOSC())
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

		object := nodewebhook.NewOSC()
		object.Spec.CRIConfig.Containerd.Registries = []extensionsv1alpha1.RegistryConfig{{
			Upstream: "docker.io", ReadinessProbe: new(true), Hosts: []extensionsv1alpha1.RegistryHost{{URL: other.URL}},
		}}
		addCache(ctx, object, nodewebhook.Cache{Endpoint: cache.URL, Authority: cacheAuthority})
		apply(object)
		Expect(tree()).To(HaveKeyWithValue("docker.io/hosts.toml", And(ContainSubstring(cache.URL), ContainSubstring(other.URL))))
	})
})
