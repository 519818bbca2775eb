// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gardener/gardener/pkg/client/kubernetes"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	fakeclient "sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/cacheserver/status"
	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/controller/credentialstate"
	"github.com/larder-project/larder/pkg/controller/readiness"
	"github.com/larder-project/larder/pkg/controller/shoot"
	"github.com/larder-project/larder/pkg/controller/shoot/shoottest"
	"github.com/larder-project/larder/pkg/credentials"
)

var _ = Describe("Look", func() {
	const cache = "registry-docker-io"

	var (
		api    *fakeAPI
		server *httptest.Server
		shoots *Shoots
	)

	healthy := status.Report{
		Upstream:    status.Upstream{Host: "docker.io", Reachable: true},
		Credentials: &credentials.Report{SecretName: "v1", State: credentials.StateActive, Message: "well"},
	}
	look := func(ctx context.Context, caches ...string) map[string]Cache {
		GinkgoHelper()
		found, err := shoots.Look(ctx, shoottest.Namespace, caches)
		Expect(err).NotTo(HaveOccurred())
		return found
	}

	BeforeEach(func() {
		api = &fakeAPI{replicas: 1, pod: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
		api.respond = func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(healthy) }
		server = httptest.NewUnstartedServer(api)
		server.Config.ConnState = api.count
		server.StartTLS()
		DeferCleanup(server.Close)
		seed := fakeclient.NewClientBuilder().WithScheme(kubernetes.SeedScheme).WithObjects(shoottest.Kubeconfig(server)).Build()
		shoots = &Shoots{Client: seed, ReportsTimeout: 10 * time.Second, Now: time.Now}
	})

	It("finds replicas with their reports", func(ctx SpecContext) {
		Expect(look(ctx, cache)).To(HaveKeyWithValue(cache, Cache{Desired: 1, Replicas: []Replica{{Name: cache + "-0", Running: true, Credentials: healthy.Credentials}}}))
		Expect(api.pods()).To(ConsistOf(cache + "-0"))
	})

	It("presents its token to a replica that restricts access", func(ctx SpecContext) {
		token := component.NewDebugToken()
		api.respond = func(w http.ResponseWriter, request *http.Request) {
			if request.Header.Get(config.DebugTokenHeader) != token {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			_ = json.NewEncoder(w).Encode(healthy)
		}
		Expect(look(ctx, cache)[cache].Replicas).To(ConsistOf(HaveField("Silent", true)), "it has none for a replica that requires none")
		api.volumes = []corev1.Volume{{Name: "access"}}
		Expect(look(ctx, cache)[cache].Replicas).To(ConsistOf(HaveField("Silent", true)))
		api.secret = &corev1.Secret{Data: map[string][]byte{"debug-token": []byte("x\r\nHost: example.com")}}
		Expect(look(ctx, cache)[cache].Replicas).To(ConsistOf(HaveField("Silent", true)))
		api.secret.Data["debug-token"] = []byte(token)
		Expect(look(ctx, cache)[cache].Replicas).To(ConsistOf(And(HaveField("Silent", false), HaveField("Credentials", healthy.Credentials))))
		Expect(api.read()).To(ContainElement("/api/v1/namespaces/kube-system/secrets/" + cache + "-access"))
	})

	It("reads objects by name, not by labels", func(ctx SpecContext) {
		api.replicas = 1000
		found := look(ctx, cache)[cache]
		Expect(found.Desired).To(Equal(int32(2)))
		Expect(found.Replicas).To(HaveLen(2))
		Expect(api.pods()).To(ConsistOf(cache+"-0", cache+"-1"))
		Expect(api.read()).To(ConsistOf(
			"/apis/apps/v1/namespaces/kube-system/statefulsets/"+cache,
			"/api/v1/namespaces/kube-system/pods/"+cache+"-0", "/api/v1/namespaces/kube-system/pods/"+cache+"-1",
		), "the owner controls the length of lists")
	})

	It("leaves no connection open", func(ctx SpecContext) {
		api.replicas = 2
		look(ctx, "registry-a", "registry-b", "registry-c")
		Expect(api.opened.Load()).To(BeNumerically(">", 1))
		Eventually(ctx, api.open.Load).Should(BeZero())
	}, SpecTimeout(time.Minute))

	It("finds the problems of pending pods", func(ctx SpecContext) {
		api.replicas, api.pod = 2, corev1.PodStatus{Phase: corev1.PodPending}
		found := look(ctx, cache)[cache]
		Expect(found.running(nil)).To(Equal(credentialstate.Replicas{Desired: 2}))
		Expect(found.problems()).To(HaveEach(HaveField("Reason", readiness.NoVolume)), "the StorageClass of the claim does not exist")
		Expect(api.pods()).To(BeEmpty())
		Expect(api.read()).To(ContainElements("/api/v1/namespaces/kube-system/persistentvolumeclaims/cache-volume-"+cache+"-0", "/apis/storage.k8s.io/v1/storageclasses/premium"))

		api.replicas = 0
		Expect(look(ctx, cache)[cache].problems()).To(ConsistOf(HaveField("Reason", readiness.ReplicaMissing)))
	})

	Describe("at replicas of an earlier version", func() {
		BeforeEach(func() {
			api.respond = func(w http.ResponseWriter, request *http.Request) {
				if !strings.HasSuffix(request.URL.Path, config.CredentialsPath) {
					http.NotFound(w, request)
					return
				}
				_ = json.NewEncoder(w).Encode(healthy.Credentials)
			}
		})

		It("finds the state of the credential, and no problem", func(ctx SpecContext) {
			Expect(look(ctx, cache)[cache].Replicas).To(ConsistOf(Replica{Name: cache + "-0", Running: true, Credentials: healthy.Credentials}))
			Expect(api.pods()).To(ConsistOf(cache+"-0", cache+"-0"))
		})
	})

	Describe("at replicas that never respond", func() {
		var caches []string

		BeforeEach(func() {
			api.replicas = 2
			caches = nil
			for i := range 100 {
				caches = append(caches, fmt.Sprintf("registry-%d", i))
			}
		})

		It("ends after a timeout, without a problem", func(ctx SpecContext) {
			shoots.ReportsTimeout = time.Millisecond
			api.respond = func(_ http.ResponseWriter, request *http.Request) { <-request.Context().Done() }
			found := look(ctx, caches...)
			Expect(found).To(HaveLen(100))
			for _, cache := range found {
				Expect(cache.Replicas).To(HaveLen(2))
				Expect(cache.Replicas).To(HaveEach(And(HaveField("Running", true), HaveField("Silent", true), HaveField("Credentials", BeNil()), HaveField("Problem", readiness.Problem{}))))
			}
		}, SpecTimeout(time.Minute))

		It("keeps the limit of concurrent requests", func(ctx SpecContext) {
			ended, end := context.WithCancel(ctx)
			shoots.ReportsTimeout = time.Minute
			api.respond = func(_ http.ResponseWriter, request *http.Request) {
				if len(api.pods()) >= maxConcurrentReports {
					end()
				}
				<-request.Context().Done()
			}
			look(ended, caches...)
			Expect(api.pods()).To(HaveLen(maxConcurrentReports))
		}, SpecTimeout(time.Minute))
	})

	DescribeTable("ignores a report that is", func(ctx SpecContext, silent bool, respond http.HandlerFunc) {
		api.respond = respond
		found := look(ctx, cache)[cache]
		Expect(found.Replicas).To(ConsistOf(Replica{Name: cache + "-0", Running: true, Silent: silent}))
		Expect(found.silent()).To(Equal(silent))
	},
		Entry("an error", true, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) })),
		Entry("missing", false, http.HandlerFunc(http.NotFound)),
		Entry("not JSON", true, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") })),
		Entry("empty", false, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") })),
		Entry("too long", true, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(status.Report{Upstream: status.Upstream{Host: strings.Repeat("x", 1<<20)}})
		})),
		Entry("impossible", true, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"upstream":{"host":"docker.io"},"storage":{"free":1e999999999}}`)
		})),
	)

	It("finds that a replica is not ready because of its volume", func(ctx SpecContext) {
		api.pod.Conditions[0].Status = corev1.ConditionFalse
		Expect(look(ctx, cache)[cache].Replicas[0].Problem.Reason).To(Equal(readiness.ReplicaNotReady))
		api.respond = func(w http.ResponseWriter, _ *http.Request) {
			report := healthy
			report.Storage.Failing = true
			_ = json.NewEncoder(w).Encode(report)
		}
		Expect(look(ctx, cache)[cache].Replicas[0].Problem.Reason).To(Equal(readiness.StorageFailing))
	})

	It("shortens messages", func(ctx SpecContext) {
		long := strings.Repeat("line\n", 1000)
		api.respond = func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(status.Report{
				Upstream:    status.Upstream{Host: "docker.io", Message: long},
				Credentials: &credentials.Report{State: credentials.StateRejected, Message: long},
			})
		}
		replica := look(ctx, cache)[cache].Replicas[0]
		Expect(replica.Problem.Reason).To(Equal(readiness.UpstreamUnreachable))
		Expect(len(replica.Problem.Message)).To(BeNumerically("<=", readiness.MaxMessage))
		message := replica.Credentials.Message
		Expect(len(message)).To(BeNumerically("<=", 256))
		Expect(message).To(And(HavePrefix("line line"), Not(ContainSubstring("\n"))))
	})

	It("finds the other caches if an object of one is too large for a pod, and fails if there are none", func(ctx SpecContext) {
		api.large = "registry-large-0"
		found := look(ctx, "registry-large", cache)
		Expect(found["registry-large"]).To(Equal(Cache{Err: found["registry-large"].Err}))
		Expect(found["registry-large"].Err).To(MatchError(shoot.ErrTooLong))
		Expect(found[cache].Replicas).To(HaveLen(1))
		Expect(found[cache].Err).NotTo(HaveOccurred())

		_, err := shoots.Look(ctx, shoottest.Namespace, []string{"registry-large"})
		Expect(err).To(MatchError(shoot.ErrTooLong))
		Expect(shoot.IsUnresponsive(err)).To(BeFalse())
	})

	It("fails if the API server does not respond", func(ctx SpecContext) {
		server.Close()
		_, err := shoots.Look(ctx, shoottest.Namespace, []string{cache})
		Expect(err).To(HaveOccurred())
		Expect(shoot.IsUnresponsive(err)).To(BeTrue())
	})

	It("does not take a missing kubeconfig for an API server that does not respond", func(ctx SpecContext) {
		_, err := shoots.Look(ctx, "another-namespace", []string{cache})
		Expect(err).To(MatchError(ContainSubstring("kubeconfig")))
		Expect(shoot.IsUnresponsive(err)).To(BeFalse())
	})
})

// fakeAPI is the API server of a Shoot whose StatefulSets all have the same number of replicas in the same state. Their
// claims are pending, and no StorageClass exists.
type fakeAPI struct {
	replicas int32
	pod      corev1.PodStatus
	respond  http.HandlerFunc
	// volumes are those of all pods, and secret is every Secret, nil if there are none.
	volumes []corev1.Volume
	secret  *corev1.Secret
	// large is the name of a pod that is larger than a pod of a cache can be.
	large string

	// opened counts all connections, and open those that are open.
	opened, open atomic.Int32

	mu sync.Mutex
	// asked are the pods that were asked, and others the other requests.
	asked, others []string
}

// pods returns the pods that were asked.
func (f *fakeAPI) pods() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

// read returns the paths of the objects that were read.
func (f *fakeAPI) read() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.others)
}

func (f *fakeAPI) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		f.opened.Add(1)
		f.open.Add(1)
	case http.StateClosed:
		f.open.Add(-1)
	}
}

// ServeHTTP serves objects, and the proxy to pods.
func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	const (
		statefulSets = "/apis/apps/v1/namespaces/kube-system/statefulsets/"
		pods         = "/api/v1/namespaces/kube-system/pods/"
		secrets      = "/api/v1/namespaces/kube-system/secrets/"
		claims       = "/api/v1/namespaces/kube-system/persistentvolumeclaims/"
	)
	path := request.URL.Path
	name := path[strings.LastIndex(path, "/")+1:]
	meta := metav1.ObjectMeta{Namespace: "kube-system", Name: name}
	if strings.Contains(path, "/proxy/") {
		f.mu.Lock()
		f.asked = append(f.asked, strings.Split(path, ":")[1])
		f.mu.Unlock()
		f.respond(w, request)
		return
	}
	f.mu.Lock()
	f.others = append(f.others, path)
	f.mu.Unlock()
	switch {
	case strings.HasPrefix(path, statefulSets):
		reply(w, &appsv1.StatefulSet{
			TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "StatefulSet"}, ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Replicas: &f.replicas},
		})
	case strings.HasPrefix(path, pods):
		if name == f.large {
			meta.Annotations = map[string]string{"large": strings.Repeat("x", shoot.MaxPod)}
		}
		reply(w, &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: meta, Spec: corev1.PodSpec{Volumes: f.volumes}, Status: f.pod})
	case strings.HasPrefix(path, secrets) && f.secret != nil:
		reply(w, &corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: meta, Data: f.secret.Data})
	case strings.HasPrefix(path, claims):
		reply(w, &corev1.PersistentVolumeClaim{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"}, ObjectMeta: meta,
			Spec:   corev1.PersistentVolumeClaimSpec{StorageClassName: new("premium")},
			Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending},
		})
	default:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Reason: metav1.StatusReasonNotFound, Code: http.StatusNotFound})
	}
}

func reply(w http.ResponseWriter, object any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(object)
}
