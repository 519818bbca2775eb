// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"cmp"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	"github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/cacheserver/status"
	component "github.com/larder-project/larder/pkg/component/cache"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/upstream"
	"github.com/larder-project/larder/test/integration/suite"
)

var _ = Describe("Credentials", func() {
	const name = "registry-rotated-example-com"
	private := v1alpha3.RegistryCache{
		Upstream:            "rotated.example.com",
		SecretReferenceName: new("upstream-credentials"),
		HTTP:                &v1alpha3.HTTP{TLS: new(false)},
	}
	password := func(version string) map[string]string {
		return map[string]string{"username": "robot", "password": "password of " + version}
	}

	It("are staged and reported until the replicas use them, without new pods", func(ctx SpecContext) {
		s := newShoot(ctx)
		credentialsOf := func(extension *extensionsv1alpha1.Extension) registry.CredentialsStatus {
			GinkgoHelper()
			Expect(get(extension)(ctx)).To(Succeed())
			status := statusOf(extension)
			Expect(status.Caches).To(HaveLen(1))
			Expect(status.Caches[0].Credentials).NotTo(BeNil())
			return *status.Caches[0].Credentials
		}
		rotateTo := func(version string) *extensionsv1alpha1.Extension {
			GinkgoHelper()
			s.createSecret(ctx, version, password(version), true)
			s.update(ctx, func(shoot *gardencorev1beta1.Shoot) { shoot.Spec.Resources[0].ResourceRef.Name = version })
			return s.reconcile(ctx, private)
		}
		secret := inShoot(&corev1.Secret{}, name+"-credentials")
		expectDeployed := func(wanted, previous string) {
			GinkgoHelper()
			Eventually(ctx, func(g Gomega) {
				g.Expect(get(secret)(ctx)).To(Succeed())
				g.Expect(string(secret.Data["name"])).To(Equal(wanted))
				g.Expect(string(secret.Data["password"])).To(Equal("password of " + wanted))
				used := inShoot(&appsv1.StatefulSet{}, name)
				g.Expect(get(used)(ctx)).To(Succeed())
				g.Expect(used.Annotations).To(HaveKeyWithValue(component.SecretNameAnnotation, cmp.Or(previous, wanted)))
				if previous == "" {
					g.Expect(secret.Data).To(HaveLen(3))
					return
				}
				g.Expect(string(secret.Data["previous.name"])).To(Equal(previous))
				g.Expect(string(secret.Data["previous.password"])).To(Equal("password of " + previous))
			}).Should(Succeed())
		}

		By("First credential")
		s.refer(ctx, "upstream-credentials", "v1", password("v1"))
		extension := s.reconcile(ctx, private)
		Expect(credentialsOf(extension)).To(And(HaveField("SecretName", "v1"), HaveField("State", registry.CredentialsPending)))
		expectDeployed("v1", "")
		statefulSet := inShoot(&appsv1.StatefulSet{}, name)
		Eventually(ctx, get(statefulSet)).Should(Succeed())

		replica := newReplica(ctx, private.Upstream)
		replica.say(credentials.Report{SecretName: "v1", State: credentials.StateActive})
		Eventually(ctx, func() registry.CredentialsStatus { return credentialsOf(extension) }).Should(HaveField("State", registry.CredentialsActive))

		By("Second credential, which the upstream rejects")
		extension = rotateTo("v2")
		Expect(credentialsOf(extension)).To(And(
			HaveField("SecretName", "v1"), HaveField("PendingSecretName", "v2"), HaveField("State", registry.CredentialsPending)))
		expectDeployed("v2", "v1")
		replica.say(credentials.Report{
			SecretName: "v1", PendingSecretName: "v2", State: credentials.StateRejected, UpstreamStatusCode: http.StatusUnauthorized,
			Message: "upstream rotated.example.com: status 401",
		})
		Eventually(ctx, func() registry.CredentialsStatus { return credentialsOf(extension) }).Should(And(
			HaveField("SecretName", "v1"), HaveField("PendingSecretName", "v2"), HaveField("State", registry.CredentialsRejected),
			HaveField("UpstreamStatusCode", HaveValue(BeEquivalentTo(http.StatusUnauthorized)))))
		Eventually(ctx, func(g Gomega) {
			g.Expect(get(extension)(ctx)).To(Succeed())
			g.Expect(extension.Status.Conditions).To(ContainElement(And(
				HaveField("Type", gardencorev1beta1.ShootSystemComponentsHealthy),
				HaveField("Status", gardencorev1beta1.ConditionFalse),
				HaveField("Codes", ContainElement(gardencorev1beta1.ErrorInfraUnauthorized)),
				HaveField("Message", ContainSubstring(`The upstream rotated.example.com rejects the Secret "v2" of its registry cache with status 401`)),
			)))
			events := &eventsv1.EventList{}
			g.Expect(testClient.List(ctx, events, client.InNamespace(s.namespace))).To(Succeed())
			g.Expect(events.Items).To(ContainElement(And(
				HaveField("Reason", "CredentialsRejected"), HaveField("Type", corev1.EventTypeWarning), HaveField("Regarding.Kind", "Extension"))))
		}).Should(Succeed())
		expectDeployed("v2", "v1")

		By("Third credential, which the upstream accepts")
		extension = rotateTo("v3")
		expectDeployed("v3", "v1")
		Expect(credentialsOf(extension)).To(And(HaveField("SecretName", "v1"), HaveField("PendingSecretName", "v3")))
		replica.say(credentials.Report{SecretName: "v3", State: credentials.StateActive})
		Eventually(ctx, func() registry.CredentialsStatus { return credentialsOf(extension) }).Should(And(
			HaveField("SecretName", "v3"), HaveField("PendingSecretName", ""), HaveField("State", registry.CredentialsActive)))
		expectDeployed("v3", "")
		Eventually(ctx, func(g Gomega) {
			g.Expect(get(extension)(ctx)).To(Succeed())
			g.Expect(extension.Status.Conditions).NotTo(ContainElement(HaveField("Codes", Not(BeEmpty()))))
		}).Should(Succeed())

		By("The StatefulSet has not changed")
		after := inShoot(&appsv1.StatefulSet{}, name)
		Expect(get(after)(ctx)).To(Succeed())
		Expect(after.UID).To(Equal(statefulSet.UID))
		Expect(after.Generation).To(Equal(statefulSet.Generation))
		Expect(after.Spec.Template).To(Equal(statefulSet.Spec.Template))
	})
})

// replica is a pod that is reached through the API server, like a real one.
type replica struct {
	mu sync.Mutex
	// documents are the reports by path. Others do not exist, as in earlier versions of the cache server.
	documents map[string][]byte
	// asked counts the requests.
	asked int
	// token is the debug token of the last request for its state.
	token string
}

// newReplica returns a replica with a running pod.
func newReplica(ctx context.Context, host string, volumes ...corev1.Volume) *replica {
	GinkgoHelper()
	r := serveReplica()
	pod := inShoot(&corev1.Pod{}, upstream.Upstream(host).ResourceName()+"-0")
	pod.Labels = component.Labels(upstream.Upstream(host))
	pod.Spec.Containers = []corev1.Container{{Name: "registry-cache", Image: "example.com/registry-cache-server:v1"}}
	pod.Spec.Volumes = volumes
	Expect(testClient.Create(ctx, pod)).To(Succeed())
	DeferCleanup(func(ctx context.Context) {
		Expect(testClient.Delete(ctx, pod, client.GracePeriodSeconds(0))).To(Succeed())
	})
	pod.Status.Phase = corev1.PodRunning
	pod.Status.PodIP = hostAddress()
	pod.Status.PodIPs = []corev1.PodIP{{IP: pod.Status.PodIP}}
	Expect(testClient.Status().Update(ctx, pod)).To(Succeed())
	return r
}

// serveReplica returns a replica without a pod.
func serveReplica() *replica {
	GinkgoHelper()
	r := &replica{documents: map[string][]byte{}}
	listener, err := net.Listen("tcp", net.JoinHostPort(hostAddress(), strconv.Itoa(config.DebugPort)))
	Expect(err).NotTo(HaveOccurred())
	server := &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	suite.Background("replica", func(ctx context.Context) error {
		context.AfterFunc(ctx, func() { _ = server.Close() })
		_ = server.Serve(listener)
		return nil
	})
	return r
}

// say has the replica report like one of an earlier version, which knows only its credential.
func (r *replica) say(report credentials.Report) {
	document, _ := json.Marshal(report)
	r.set(config.CredentialsPath, document)
}

func (r *replica) sayStatus(report status.Report) {
	document, _ := json.Marshal(report)
	r.set(config.StatusPath, document)
}

func (r *replica) sayRaw(document string) { r.set(config.StatusPath, []byte(document)) }

func (r *replica) set(path string, document []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.documents[path] = document
}

func (r *replica) requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

// debugToken returns the token of the last request for its state.
func (r *replica) debugToken() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.token
}

// ServeHTTP serves the configured reports.
func (r *replica) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if request.URL.Path == config.StatusPath {
		r.token = request.Header.Get(config.DebugTokenHeader)
	}
	document, known := r.documents[request.URL.Path]
	if !known {
		http.NotFound(w, request)
		return
	}
	_, _ = w.Write(document)
}

// hostAddress returns an address of this machine other than loopback, to which API servers do not connect.
func hostAddress() string {
	GinkgoHelper()
	addresses, err := net.InterfaceAddrs()
	Expect(err).NotTo(HaveOccurred())
	for _, address := range addresses {
		if network, ok := address.(*net.IPNet); ok && network.IP.IsGlobalUnicast() && network.IP.To4() != nil {
			return network.IP.String()
		}
	}
	Skip("this machine has only loopback addresses, to which API servers do not connect")
	return ""
}
