// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package shoot

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gardener/gardener/pkg/client/kubernetes"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	fakeclient "sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/larder-project/larder/pkg/controller/shoot/shoottest"
)

func TestShoot(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "Shoot Suite")
}

var _ = Describe("Shoot", func() {
	var (
		mu      sync.Mutex
		paths   []string
		written atomic.Int64
		handler http.HandlerFunc
		shoot   *Shoot
		pod     = client.ObjectKey{Namespace: "kube-system", Name: "registry-docker-io-0"}
	)

	asked := func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(paths)
	}

	// endless writes until the client stops reading, or more than any client should read.
	endless := func(w http.ResponseWriter, status int) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		chunk := []byte(`{"padding":"` + strings.Repeat("x", 1<<16))
		for written.Load() < 256<<20 {
			n, err := w.Write(chunk)
			written.Add(int64(n))
			if err != nil {
				return
			}
		}
	}

	BeforeEach(func(ctx SpecContext) {
		paths = nil
		written.Store(0)
		server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
			mu.Lock()
			paths = append(paths, request.URL.Path)
			mu.Unlock()
			handler(w, request)
		}))
		DeferCleanup(server.Close)
		seed := fakeclient.NewClientBuilder().WithScheme(kubernetes.SeedScheme).WithObjects(shoottest.Kubeconfig(server)).Build()
		var err error
		shoot, err = Connect(ctx, seed, shoottest.Namespace)
		Expect(err).NotTo(HaveOccurred())
	})

	It("gets requests for objects by name, and no others", func(ctx SpecContext) {
		handler = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(&corev1.Secret{
				TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
				ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "example"},
				Data:       map[string][]byte{"largest": make([]byte, corev1.MaxSecretSize)},
			})
		}
		secret := &corev1.Secret{}
		Expect(shoot.Get(ctx, client.ObjectKey{Namespace: "kube-system", Name: "example"}, secret)).To(Succeed())
		Expect(secret.Data["largest"]).To(HaveLen(corev1.MaxSecretSize))
		Expect(asked()).To(Equal([]string{"/api/v1/namespaces/kube-system/secrets/example"}))
	})

	DescribeTable("is read up to the size of the largest object", func(ctx SpecContext, status int) {
		handler = func(w http.ResponseWriter, _ *http.Request) { endless(w, status) }
		Expect(shoot.Get(ctx, client.ObjectKey{Namespace: "kube-system", Name: "example"}, &corev1.Secret{})).NotTo(Succeed())
		Expect(written.Load()).To(BeNumerically("<", 64<<20))
	},
		Entry("on success", http.StatusOK),
		Entry("on failure", http.StatusForbidden),
	)

	It("forwards responses of pods", func(ctx SpecContext) {
		handler = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "well") }
		Expect(shoot.GetFromPod(ctx, pod, 5001, "/debug/credentials", nil)).To(Equal([]byte("well")))
		Expect(asked()).To(Equal([]string{"/api/v1/namespaces/kube-system/pods/http:registry-docker-io-0:5001/proxy/debug/credentials"}))
	})

	DescribeTable("does not forward endless responses of pods", func(ctx SpecContext, status int) {
		handler = func(w http.ResponseWriter, _ *http.Request) { endless(w, status) }
		content, err := shoot.GetFromPod(ctx, pod, 5001, "/debug/credentials", nil)
		Expect(err).To(HaveOccurred())
		Expect(content).To(BeNil())
		Expect(written.Load()).To(BeNumerically("<", 32<<20))
	},
		Entry("on success", http.StatusOK),
		Entry("on failure", http.StatusInternalServerError),
	)

	DescribeTable("does not follow redirects", func(ctx SpecContext, get func(context.Context) error) {
		var followed atomic.Int32
		elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
		DeferCleanup(elsewhere.Close)
		handler = func(w http.ResponseWriter, request *http.Request) {
			http.Redirect(w, request, elsewhere.URL, http.StatusTemporaryRedirect)
		}
		Expect(get(ctx)).To(MatchError(errRedirect))
		Expect(followed.Load()).To(BeZero())
	},
		Entry("of pods", func(ctx context.Context) error { _, err := shoot.GetFromPod(ctx, pod, 5001, "/", nil); return err }),
		Entry("of the API server", func(ctx context.Context) error { return shoot.Get(ctx, pod, &corev1.Pod{}) }),
	)

	It("has a timeout, and stops with the context", func(ctx SpecContext) {
		Expect(shoot.pods.Timeout).To(And(BeNumerically(">", 0), BeNumerically("<=", time.Minute)))
		ended, end := context.WithCancel(ctx)
		handler = func(_ http.ResponseWriter, request *http.Request) {
			end()
			<-request.Context().Done()
		}
		_, err := shoot.GetFromPod(ended, pod, 5001, "/", nil)
		Expect(err).To(MatchError(context.Canceled))
	})
})
