// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gardener/gardener/pkg/client/kubernetes"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	fakeclient "sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/larder-project/larder/pkg/controller/credentialstate"
	"github.com/larder-project/larder/pkg/controller/shoot/shoottest"
	"github.com/larder-project/larder/pkg/credentials"
)

var _ = Describe("Replicas", func() {
	const cache = "registry-docker-io"

	var (
		api    *fakeAPI
		shoots *Shoots
	)

	BeforeEach(func() {
		api = &fakeAPI{replicas: 1, respond: func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(credentials.Report{SecretName: "v1", State: credentials.StateActive, Message: "well"})
		}}
		server := httptest.NewTLSServer(api)
		DeferCleanup(server.Close)
		seed := fakeclient.NewClientBuilder().WithScheme(kubernetes.SeedScheme).WithObjects(shoottest.Kubeconfig(server)).Build()
		shoots = &Shoots{Client: seed, Timeout: 10 * time.Second}
	})

	It("come with their reports", func(ctx SpecContext) {
		found, err := shoots.Replicas(ctx, shoottest.Namespace, []string{cache})
		Expect(err).NotTo(HaveOccurred())
		Expect(found).To(HaveKeyWithValue(cache, And(
			HaveField("Desired", int32(1)),
			HaveField("Running", ConsistOf(And(HaveField("Name", cache+"-0"), HaveField("Report", HaveValue(And(HaveField("SecretName", "v1"), HaveField("Message", "well"))))))),
		)))
		Expect(api.pods()).To(ConsistOf(cache + "-0"))
	})

	It("are found by name, not by labels", func(ctx SpecContext) {
		api.replicas = 1000
		found, err := shoots.Replicas(ctx, shoottest.Namespace, []string{cache})
		Expect(err).NotTo(HaveOccurred())
		Expect(found[cache].Desired).To(Equal(int32(2)))
		Expect(api.pods()).To(ConsistOf(cache+"-0", cache+"-1"))
		Expect(api.others).To(BeEmpty(), "the owner controls the length of lists")
	})

	Describe("that never respond", func() {
		var caches []string

		BeforeEach(func() {
			api.replicas = 2
			caches = nil
			for i := range 100 {
				caches = append(caches, fmt.Sprintf("registry-%d", i))
			}
		})

		It("do not block", func(ctx SpecContext) {
			shoots.Timeout = time.Millisecond
			api.respond = func(_ http.ResponseWriter, request *http.Request) { <-request.Context().Done() }
			found, err := shoots.Replicas(ctx, shoottest.Namespace, caches)
			Expect(err).NotTo(HaveOccurred())
			Expect(found).To(HaveLen(100))
			for _, replicas := range found {
				Expect(replicas.Running).To(HaveLen(2))
				Expect(replicas.Running).To(HaveEach(HaveField("Report", BeNil())))
			}
		}, SpecTimeout(time.Minute))

		It("are asked within the limit of concurrent requests", func(ctx SpecContext) {
			ended, end := context.WithCancel(ctx)
			shoots.Timeout = time.Minute
			api.respond = func(_ http.ResponseWriter, request *http.Request) {
				if len(api.pods()) >= maxConcurrentReports {
					end()
				}
				<-request.Context().Done()
			}
			_, err := shoots.Replicas(ended, shoottest.Namespace, caches)
			Expect(err).NotTo(HaveOccurred())
			Expect(api.pods()).To(HaveLen(maxConcurrentReports))
		}, SpecTimeout(time.Minute))
	})

	DescribeTable("have no report if they return", func(ctx SpecContext, respond http.HandlerFunc) {
		api.respond = respond
		found, err := shoots.Replicas(ctx, shoottest.Namespace, []string{cache})
		Expect(err).NotTo(HaveOccurred())
		Expect(found[cache].Running).To(ConsistOf(credentialstate.Replica{Name: cache + "-0"}))
	},
		Entry("an error", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) }),
		Entry("something else", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }),
		Entry("too long a report", func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(credentials.Report{Message: strings.Repeat("x", 1<<20)})
		}),
	)

	It("have messages that fit into a status", func(ctx SpecContext) {
		api.respond = func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(credentials.Report{State: credentials.StateRejected, Message: strings.Repeat("line\n", 2000)})
		}
		found, err := shoots.Replicas(ctx, shoottest.Namespace, []string{cache})
		Expect(err).NotTo(HaveOccurred())
		message := found[cache].Running[0].Report.Message
		Expect(len(message)).To(BeNumerically("<=", 256))
		Expect(message).To(And(HavePrefix("line line"), Not(ContainSubstring("\n"))))
	})
})

// fakeAPI is the API server of a Shoot whose StatefulSets all have the same number of running replicas.
type fakeAPI struct {
	replicas int32
	respond  http.HandlerFunc

	mu sync.Mutex
	// asked are the pods that were asked, and others the requests for anything but one object.
	asked, others []string
}

// pods returns the pods that were asked.
func (f *fakeAPI) pods() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

// ServeHTTP serves objects, and the proxy to pods.
func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	const statefulSets, pods = "/apis/apps/v1/namespaces/kube-system/statefulsets/", "/api/v1/namespaces/kube-system/pods/"
	path := request.URL.Path
	switch name := path[strings.LastIndex(path, "/")+1:]; {
	case strings.Contains(path, "/proxy/"):
		f.mu.Lock()
		f.asked = append(f.asked, strings.Split(path, ":")[1])
		f.mu.Unlock()
		f.respond(w, request)
	case strings.HasPrefix(path, statefulSets):
		reply(w, &appsv1.StatefulSet{
			TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "StatefulSet"},
			ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name},
			Spec:       appsv1.StatefulSetSpec{Replicas: &f.replicas},
		})
	case strings.HasPrefix(path, pods):
		reply(w, &corev1.Pod{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
			ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name},
			Status:     corev1.PodStatus{Phase: corev1.PodRunning},
		})
	default:
		f.mu.Lock()
		f.others = append(f.others, path)
		f.mu.Unlock()
		http.NotFound(w, request)
	}
}

func reply(w http.ResponseWriter, object any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(object)
}
