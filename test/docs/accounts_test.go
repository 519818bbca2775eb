// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/pelletier/go-toml/v2"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/larder-project/larder/pkg/pullsecret"
	"github.com/larder-project/larder/test/pki"
)

const (
	// clientAddress makes the program of the tests a client with the environment of a documented pod. Programs in Go read
	// the CAs of the system once. It is the address of all registries.
	clientAddress = "LARDER_DOCS_REGISTRY"
	// other is a registry with a certificate of a CA of the client's image.
	other = "other.example.com"
)

func TestMain(m *testing.M) {
	address := os.Getenv(clientAddress)
	if address == "" {
		os.Exit(m.Run())
	}
	transport := remote.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	for _, reference := range os.Args[1:] {
		if _, err := crane.Manifest(reference, crane.WithTransport(transport)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	os.Exit(0)
}

var _ = Describe("Examples of clients with an account", func() {
	var (
		authority *pki.Authority
		account   = pullsecret.Account{Name: "builder", SecretName: "registry-docker-io.builder", Registry: "registry-docker-io.kube-system.svc:5000"}
		pods      []corev1.PodSpec
		configs   map[string]corev1.ConfigMap
	)

	BeforeEach(func() {
		var err error
		authority, err = pki.NewAuthority("caches")
		Expect(err).NotTo(HaveOccurred())
		pods, configs = nil, map[string]corev1.ConfigMap{}
		for _, block := range blocks(usage) {
			switch {
			case block.language == "yaml" && strings.Contains(block.text, "\nkind: ConfigMap\n"):
				var config corev1.ConfigMap
				Expect(yaml.UnmarshalStrict([]byte(block.text), &config)).To(Succeed(), block.position)
				Expect(config.Namespace).To(Equal("ci"), block.position)
				configs[config.Name] = config
			case block.language == "yaml" && strings.Contains(block.text, "secretName: "+account.SecretName):
				var pod corev1.PodSpec
				Expect(yaml.UnmarshalStrict([]byte(block.text), &pod)).To(Succeed(), block.position)
				pods = append(pods, pod)
			}
		}
	})
	// mount writes the files of a container to a directory.
	mount := func(pod corev1.PodSpec, root string) {
		GinkgoHelper()
		content := account.Content("password", string(authority.Certificate))
		for _, mounted := range pod.Containers[0].VolumeMounts {
			i := slices.IndexFunc(pod.Volumes, func(volume corev1.Volume) bool { return volume.Name == mounted.Name })
			Expect(i).To(BeNumerically(">=", 0), mounted.Name)
			directory := filepath.Join(root, mounted.MountPath)
			Expect(os.MkdirAll(directory, 0o700)).To(Succeed())
			if source := pod.Volumes[i].ConfigMap; source != nil {
				Expect(configs).To(HaveKey(source.Name))
				for key, text := range configs[source.Name].Data {
					Expect(os.WriteFile(filepath.Join(directory, key), []byte(text), 0o600)).To(Succeed())
				}
				continue
			}
			for _, item := range pod.Volumes[i].Secret.Items {
				Expect(content).To(HaveKey(item.Key))
				Expect(os.WriteFile(filepath.Join(directory, item.Path), content[item.Key], 0o600)).To(Succeed())
			}
		}
	}
	environmentOf := func(pod corev1.PodSpec) map[string]string {
		environment := map[string]string{}
		for _, variable := range pod.Containers[0].Env {
			environment[variable.Name] = variable.Value
		}
		return environment
	}

	It("let crane pull from the cache, and from other registries", func() {
		i := slices.IndexFunc(pods, func(pod corev1.PodSpec) bool { return pod.Containers[0].Name == "crane" })
		Expect(i).To(BeNumerically(">=", 0))
		root := GinkgoT().TempDir()
		mount(pods[i], root)
		bundle := filepath.Join(root, "bundle.pem")
		public, err := pki.NewAuthority("public")
		Expect(err).NotTo(HaveOccurred())
		Expect(os.WriteFile(bundle, public.Certificate, 0o600)).To(Succeed())
		host, _, err := net.SplitHostPort(account.Registry)
		Expect(err).NotTo(HaveOccurred())
		server := newRegistry(map[string]*pki.Authority{host: authority, other: public}, account.Username(), "password")

		// The image of the client has a bundle in one of the default places, and SSL_CERT_FILE would replace it.
		environment := []string{"HOME=" + root, "SSL_CERT_FILE=" + bundle, clientAddress + "=" + server.Listener.Addr().String()}
		for name, value := range environmentOf(pods[i]) {
			environment = append(environment, name+"="+strings.ReplaceAll(value, "/registry", filepath.Join(root, "registry")))
		}
		pull := func(environment []string, reference string) error {
			program, err := os.Executable()
			Expect(err).NotTo(HaveOccurred())
			command := exec.CommandContext(context.Background(), program, reference)
			command.Env = environment
			if output, err := command.CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, output)
			}
			return nil
		}
		reference := pods[i].Containers[0].Args[1]
		Expect(reference).To(Equal("registry-docker-io.kube-system.svc:5000/library/nginx:latest"))
		Expect(pull(environment, reference)).To(Succeed())
		Expect(pull(environment, other+"/library/nginx:latest")).To(Succeed())
		Expect(pull(environment[:3], reference)).To(MatchError(ContainSubstring("x509")), "the client needs what is documented")
	})

	It("let BuildKit use the cache as a mirror", func() {
		i := slices.IndexFunc(pods, func(pod corev1.PodSpec) bool { return pod.Containers[0].Name == "buildkit" })
		Expect(i).To(BeNumerically(">=", 0))
		root := GinkgoT().TempDir()
		mount(pods[i], root)

		_, path, ok := strings.Cut(environmentOf(pods[i])["BUILDKITD_FLAGS"], "--config=")
		Expect(ok).To(BeTrue())
		content, err := os.ReadFile(filepath.Join(root, path))
		Expect(err).NotTo(HaveOccurred())
		var config struct {
			Registry map[string]struct {
				Mirrors []string `toml:"mirrors"`
				CA      []string `toml:"ca"`
			} `toml:"registry"`
		}
		Expect(toml.NewDecoder(strings.NewReader(string(content))).DisallowUnknownFields().Decode(&config)).To(Succeed())
		Expect(config.Registry["docker.io"].Mirrors).To(HaveExactElements(account.Registry))
		Expect(config.Registry[account.Registry].CA).To(HaveLen(1))
		Expect(os.ReadFile(filepath.Join(root, config.Registry[account.Registry].CA[0]))).To(Equal(authority.Certificate))
		auths, err := os.ReadFile(filepath.Join(root, environmentOf(pods[i])["DOCKER_CONFIG"], "config.json"))
		Expect(err).NotTo(HaveOccurred())
		Expect(pullsecret.DecodeAuths(auths)).To(HaveKey(account.Registry))
	})
})

// newRegistry returns a registry with a manifest for all references, and certificates by its names. It asks for a
// password under all names but [other].
func newRegistry(authorities map[string]*pki.Authority, username, password string) *httptest.Server {
	GinkgoHelper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name, secret, _ := r.BasicAuth(); r.TLS.ServerName != other && (name != username || secret != password) {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		_, _ = w.Write([]byte(`{"schemaVersion":2}`))
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // One client must not trust it.
	certificates := map[string]*tls.Certificate{}
	for host, authority := range authorities {
		pair, err := authority.Issue(pki.Request{CommonName: host, Hosts: []string{host}})
		Expect(err).NotTo(HaveOccurred())
		certificate, err := pair.TLS()
		Expect(err).NotTo(HaveOccurred())
		certificates[host] = &certificate
	}
	server.TLS = &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) { return certificates[hello.ServerName], nil }}
	server.StartTLS()
	DeferCleanup(server.Close)
	return server
}
