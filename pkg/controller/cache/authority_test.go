// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"time"

	extensionscontroller "github.com/gardener/gardener/extensions/pkg/controller"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	resourcesv1alpha1 "github.com/gardener/gardener/pkg/apis/resources/v1alpha1"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	"github.com/gardener/gardener/pkg/utils"
	secretsutils "github.com/gardener/gardener/pkg/utils/secrets"
	"github.com/go-logr/logr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	fakeclient "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/larder-project/larder/pkg/apis/registry"
	component "github.com/larder-project/larder/pkg/component/cache"
)

var _ = Describe("CA", func() {
	const day = 24 * time.Hour

	var (
		clock    *testclock.FakeClock
		actuator *Actuator
		cluster  *extensionscontroller.Cluster
		// applies means that gardener-resource-manager applies deployed objects.
		applies bool
		// before is the state before the current reconciliation.
		before *state
		caches []deployment
		// node is the certificate of the nodes, nil if there is none.
		node *x509.Certificate
	)

	BeforeEach(func() {
		clock = testclock.NewFakeClock(time.Date(2026, time.January, 1, 12, 0, 0, 0, time.UTC))
		realClock, realKey := secretsutils.Clock, secretsutils.GenerateKey
		DeferCleanup(func() { secretsutils.Clock, secretsutils.GenerateKey = realClock, realKey })
		secretsutils.Clock = clock
		// Shorter keys are faster to generate.
		secretsutils.GenerateKey = func(random io.Reader, _ int) (*rsa.PrivateKey, error) { return rsa.GenerateKey(random, 2048) }
		// The secrets manager compares creation times, which an API server sets.
		seed := fakeclient.NewClientBuilder().WithScheme(kubernetes.SeedScheme).WithInterceptorFuncs(interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.CreateOption) error {
				object.SetCreationTimestamp(metav1.NewTime(clock.Now()))
				return c.Create(ctx, object, options...)
			},
		}).Build()
		actuator = &Actuator{Client: seed, Clock: clock}
		cluster = &extensionscontroller.Cluster{
			ObjectMeta: metav1.ObjectMeta{Name: "shoot--dev--example"},
			Shoot:      &gardencorev1beta1.Shoot{},
		}
		applies, before, node = true, nil, nil
		caches = []deployment{{Values: component.Values{Cache: registry.RegistryCache{Upstream: "docker.io", HTTP: &registry.HTTP{TLS: new(true)}}}}}
	})

	// rotation sets the Shoot's status as gardenlet does in a phase of a rotation that was initiated at the given time.
	rotation := func(phase gardencorev1beta1.CredentialsRotationPhase, initiated time.Time) {
		status := &gardencorev1beta1.CARotation{Phase: phase, LastInitiationTime: new(metav1.NewTime(initiated))}
		if credentials := cluster.Shoot.Status.Credentials; credentials != nil {
			status.LastInitiationFinishedTime = credentials.Rotation.CertificateAuthorities.LastInitiationFinishedTime
			status.LastCompletionTime = credentials.Rotation.CertificateAuthorities.LastCompletionTime
		}
		switch phase {
		case gardencorev1beta1.RotationPreparing:
			status.LastInitiationFinishedTime = nil
		case gardencorev1beta1.RotationPrepared:
			clock.Step(time.Minute)
			status.LastInitiationFinishedTime = new(metav1.NewTime(clock.Now()))
		case gardencorev1beta1.RotationCompleted:
			clock.Step(time.Minute)
			status.LastInitiationFinishedTime, status.LastCompletionTime = nil, new(metav1.NewTime(clock.Now()))
		}
		cluster.Shoot.Status.Credentials = &gardencorev1beta1.ShootCredentials{Rotation: &gardencorev1beta1.ShootCredentialsRotation{CertificateAuthorities: status}}
	}

	trusts := func(bundle []*x509.Certificate, server *x509.Certificate) bool {
		for _, ca := range bundle {
			if server.CheckSignatureFrom(ca) == nil && clock.Now().Before(ca.NotAfter) {
				return true
			}
		}
		return false
	}

	deploy := func(ctx context.Context, issued certificates) {
		GinkgoHelper()
		var objects []client.Object
		for _, cache := range complete(caches, observed{}, nil, issued) {
			objects = append(objects, component.TLSSecret(cache.Values))
		}
		Expect(actuator.deploy(ctx, cluster.ObjectMeta.Name, ManagedResource, objects, nil)).To(Succeed())
		managedResource := newManagedResource(cluster.ObjectMeta.Name, ManagedResource)
		Expect(actuator.Client.Get(ctx, client.ObjectKeyFromObject(managedResource), managedResource)).To(Succeed())
		status := gardencorev1beta1.ConditionFalse
		if applies {
			status = gardencorev1beta1.ConditionTrue
		}
		managedResource.Status.Conditions = []gardencorev1beta1.Condition{{Type: resourcesv1alpha1.ResourcesApplied, Status: status}}
		Expect(actuator.Client.Update(ctx, managedResource)).To(Succeed())
	}

	// issue handles the certificates as a reconciliation does. In any case, nodes without the new bundle have to trust
	// the new certificate of a server, and nodes with it the old certificate.
	issue := func(ctx context.Context) (bundle []*x509.Certificate, server *x509.Certificate) {
		GinkgoHelper()
		request := certificateRequest{cluster: cluster, caches: caches, addresses: map[string]net.IP{"registry-docker-io": net.ParseIP("10.0.0.1")}}
		issued, err := actuator.issueCertificates(ctx, logr.Discard(), request)
		Expect(err).NotTo(HaveOccurred())
		deploy(ctx, issued)
		issued, err = actuator.dropOldCA(ctx, logr.Discard(), request, issued)
		Expect(err).NotTo(HaveOccurred())
		Expect(issued.deleteUnused(ctx)).To(Succeed())
		secret := &corev1.Secret{}
		Expect(actuator.Client.Get(ctx, client.ObjectKey{Namespace: cluster.ObjectMeta.Name, Name: *issued.caBundleName}, secret)).To(Succeed())
		bundle = parse(secret.Data[secretsutils.DataKeyCertificateBundle])
		server, err = utils.DecodeCertificate(issued.secrets["registry-docker-io-tls"].Data[secretsutils.DataKeyCertificate])
		Expect(err).NotTo(HaveOccurred())

		roots := x509.NewCertPool()
		for _, ca := range bundle {
			roots.AddCert(ca)
		}
		_, err = server.Verify(x509.VerifyOptions{Roots: roots, DNSName: "10.0.0.1", CurrentTime: clock.Now()})
		Expect(err).NotTo(HaveOccurred())
		if before != nil && clock.Now().Before(before.server.NotAfter) {
			Expect(trusts(before.bundle, server)).To(BeTrue(), "nodes with the previous bundle trust the server")
			Expect(trusts(bundle, before.server)).To(BeTrue(), "nodes trust the previous certificate of the server")
		}
		node = nil
		if issued.nodeName != nil {
			Expect(actuator.Client.Get(ctx, client.ObjectKey{Namespace: cluster.ObjectMeta.Name, Name: *issued.nodeName}, secret)).To(Succeed())
			node, err = utils.DecodeCertificate(secret.Data[secretsutils.DataKeyCertificate])
			Expect(err).NotTo(HaveOccurred())
			_, err = node.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: clock.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
			Expect(err).NotTo(HaveOccurred())
			if before != nil && before.node != nil && clock.Now().Before(before.node.NotAfter) {
				Expect(trusts(before.bundle, node)).To(BeTrue(), "caches with the previous bundle trust the nodes")
				Expect(trusts(bundle, before.node)).To(BeTrue(), "caches trust nodes with the previous certificate")
			}
		}
		before = &state{bundle: bundle, server: server, node: node}
		return bundle, server
	}

	Describe("of a cache only for nodes", func() {
		BeforeEach(func() {
			caches[0].Cache.Access = &registry.Access{Mode: registry.AccessNodes}
		})

		It("signs a client certificate, which is renewed while the previous one is valid", func(ctx SpecContext) {
			issue(ctx)
			first := node
			Expect(first.Subject.CommonName).To(Equal("registry-cache-node"))
			Expect(first.NotAfter).To(Equal(clock.Now().Add(90 * day)))
			Expect(first.ExtKeyUsage).To(ConsistOf(x509.ExtKeyUsageClientAuth))
			Expect(before.server.ExtKeyUsage).To(ConsistOf(x509.ExtKeyUsageServerAuth), "a cache cannot pull from another one")
			clock.Step(71 * day)
			issue(ctx)
			Expect(node).To(Equal(first))
			clock.Step(2 * day)
			issue(ctx)
			Expect(node).NotTo(Equal(first))
			Expect(first.NotAfter.Sub(clock.Now())).To(BeNumerically(">", caOverlap), "nodes may get the new one a week later")
		})

		It("has no client certificate any more when the mode changes", func(ctx SpecContext) {
			issue(ctx)
			caches[0].Cache.Access = nil
			kept, err := actuator.issueCertificates(ctx, logr.Discard(), certificateRequest{
				cluster: cluster, caches: caches, addresses: map[string]net.IP{"registry-docker-io": net.ParseIP("10.0.0.1")}, keepsNode: true,
			})
			Expect(err).NotTo(HaveOccurred())
			Expect(kept.nodeName).NotTo(BeNil(), "while caches may still ask for it")
			issue(ctx)
			Expect(node).To(BeNil())
			secrets := &corev1.SecretList{}
			Expect(actuator.Client.List(ctx, secrets, client.MatchingLabels{"name": "registry-cache-node"})).To(Succeed())
			Expect(secrets.Items).To(BeEmpty())
		})

		DescribeTable("keeps the old one in the bundle until nodes have certificates of the new one", func(ctx SpecContext, end func(initiated time.Time)) {
			first, _ := issue(ctx)
			clock.Step(10 * day)
			initiated := clock.Now()
			rotation(gardencorev1beta1.RotationPreparing, initiated)
			both, _ := issue(ctx)
			Expect(trusts(first, node)).To(BeTrue(), "caches may not have the new bundle yet")
			rotation(gardencorev1beta1.RotationPrepared, initiated)
			issue(ctx)
			Expect(trusts(first, node)).To(BeFalse())

			clock.Step(day)
			rotation(gardencorev1beta1.RotationCompleting, initiated)
			again, _ := issue(ctx)
			Expect(again).To(Equal(both), "nothing shows that nodes have been updated since")
			end(initiated)
			second, _ := issue(ctx)
			Expect(second).To(HaveLen(1))
			Expect(trusts(second, node)).To(BeTrue())
		},
			Entry("which the end of the rotation shows", func(initiated time.Time) { rotation(gardencorev1beta1.RotationCompleted, initiated) }),
			Entry("which they have after a week", func(time.Time) { clock.Step(caOverlap) }),
		)
	})

	It("does not change from one day to the next", func(ctx SpecContext) {
		first, _ := issue(ctx)
		Expect(first).To(HaveLen(1))
		Expect(first[0].NotAfter).To(Equal(clock.Now().Add(730 * day)))
		clock.Step(500 * day)
		later, _ := issue(ctx)
		Expect(later).To(Equal(first))
	})

	DescribeTable("is renewed after 80 % of its validity, and nodes always trust the caches", func(ctx SpecContext, rotatedAfter time.Duration) {
		if rotatedAfter != 0 {
			issue(ctx)
			clock.Step(rotatedAfter)
			initiated := clock.Now()
			for _, phase := range []gardencorev1beta1.CredentialsRotationPhase{
				gardencorev1beta1.RotationPreparing, gardencorev1beta1.RotationPrepared, gardencorev1beta1.RotationCompleting, gardencorev1beta1.RotationCompleted,
			} {
				rotation(phase, initiated)
				issue(ctx)
			}
			clock.Step(day)
		}
		first, _ := issue(ctx)
		Expect(first).To(HaveLen(1))

		clock.Step(585 * day)
		both, server := issue(ctx)
		Expect(both).To(HaveLen(2))
		Expect(both).To(ContainElement(first[0]))
		Expect(trusts(first, server)).To(BeTrue())

		clock.Step(6 * day)
		again, server := issue(ctx)
		Expect(again).To(Equal(both), "it is renewed once")
		Expect(trusts(first, server)).To(BeTrue())

		clock.Step(2 * day)
		again, server = issue(ctx)
		Expect(again).To(Equal(both), "the caches do not serve the certificate yet")
		Expect(trusts(first, server)).To(BeFalse())

		clock.Step(day)
		renewed, same := issue(ctx)
		Expect(renewed).To(HaveLen(1))
		Expect(renewed).NotTo(ContainElement(first[0]))
		Expect(same).To(Equal(server))
	},
		Entry("in a Shoot whose CAs were never rotated", time.Duration(0)),
		Entry("in a Shoot whose CAs were rotated long ago", 100*day),
	)

	It("is renewed after its expiry, as after a long hibernation", func(ctx SpecContext) {
		first, _ := issue(ctx)
		clock.Step(1000 * day)
		before = nil // Nodes and caches have no earlier state.
		renewed, _ := issue(ctx)
		Expect(renewed).To(HaveLen(1))
		Expect(renewed).NotTo(Equal(first))
	})

	Describe("rotates with the CAs of the Shoot", func() {
		var first, both []*x509.Certificate

		BeforeEach(func(ctx SpecContext) {
			first, _ = issue(ctx)
			clock.Step(10 * day)
			rotation(gardencorev1beta1.RotationPreparing, clock.Now())
			var server *x509.Certificate
			both, server = issue(ctx)
			Expect(both).To(HaveLen(2))
			Expect(trusts(first, server)).To(BeTrue())
		})

		DescribeTable("keeping certificates of the old one until all nodes trust the new one", func(ctx SpecContext, phase gardencorev1beta1.CredentialsRotationPhase) {
			clock.Step(60 * day)
			rotation(phase, clock.Now().Add(-60*day))
			again, server := issue(ctx)
			Expect(again).To(Equal(both))
			Expect(trusts(first, server)).To(BeTrue())
		},
			Entry("while nodes are being updated", gardencorev1beta1.RotationPreparing),
			Entry("while the owner does not want nodes to be rolled", gardencorev1beta1.RotationPreparingWithoutWorkersRollout),
			Entry("while the owner has to roll nodes", gardencorev1beta1.RotationWaitingForWorkersRollout),
		)

		It("with certificates of the new one for all caches long before the owner completes the rotation", func(ctx SpecContext) {
			initiated := clock.Now()
			rotation(gardencorev1beta1.RotationPrepared, initiated)
			again, server := issue(ctx)
			Expect(again).To(Equal(both))
			Expect(trusts(first, server)).To(BeFalse(), "the caches keep certificates of the new one")
			clock.Step(60 * day)
			again, same := issue(ctx)
			Expect(again).To(Equal(both), "only the owner completes a rotation")
			Expect(same).To(Equal(server))

			rotation(gardencorev1beta1.RotationCompleting, initiated)
			second, same := issue(ctx)
			Expect(second).To(HaveLen(1))
			Expect(second).NotTo(Equal(first))
			Expect(same).To(Equal(server))
		})

		It("with the old one in the bundle for one more reconciliation if the owner completes the rotation at once", func(ctx SpecContext) {
			initiated := clock.Now()
			rotation(gardencorev1beta1.RotationPrepared, initiated)
			rotation(gardencorev1beta1.RotationCompleting, initiated)
			again, server := issue(ctx)
			Expect(again).To(Equal(both))
			Expect(trusts(first, server)).To(BeFalse())
			rotation(gardencorev1beta1.RotationCompleted, initiated)
			again, _ = issue(ctx)
			Expect(again).To(Equal(both), "replicas may not have their certificates after a minute")

			clock.Step(time.Hour)
			second, same := issue(ctx)
			Expect(second).To(HaveLen(1))
			Expect(second).NotTo(Equal(first))
			Expect(same).To(Equal(server))
		})

		It("with the old one in the bundle until the certificates of the new one are applied", func(ctx SpecContext) {
			initiated := clock.Now()
			rotation(gardencorev1beta1.RotationPrepared, initiated)
			applies = false
			issue(ctx)
			clock.Step(day)
			rotation(gardencorev1beta1.RotationCompleting, initiated)
			again, _ := issue(ctx)
			Expect(again).To(Equal(both))
			applies = true
			second, _ := issue(ctx)
			Expect(second).To(HaveLen(1))
		})

		It("does not sign with a CA that was created after the preparation until nodes trust it", func(ctx SpecContext) {
			rotation(gardencorev1beta1.RotationPrepared, clock.Now())
			issue(ctx)
			clock.Step(585 * day)
			renewed, server := issue(ctx)
			Expect(renewed).NotTo(Equal(both))
			Expect(trusts(both, server)).To(BeTrue())
		})
	})

	DescribeTable("rotates with the CAs of the Shoot soon after a change, once there is room in the bundle", func(ctx SpecContext, change func(context.Context), after time.Duration) {
		issue(ctx)
		change(ctx)
		renewed := before.bundle[0]
		clock.Step(after)

		initiated := clock.Now()
		for _, phase := range []gardencorev1beta1.CredentialsRotationPhase{
			gardencorev1beta1.RotationPreparing, gardencorev1beta1.RotationPrepared, gardencorev1beta1.RotationCompleting, gardencorev1beta1.RotationCompleted,
		} {
			rotation(phase, initiated)
			issue(ctx)
			clock.Step(time.Minute)
		}
		for range 20 {
			clock.Step(day)
			issue(ctx)
		}
		Expect(before.bundle).To(HaveLen(1))
		Expect(before.bundle).NotTo(ContainElement(renewed))
		Expect(before.bundle[0].NotBefore).To(BeTemporally(">=", initiated.Add(-time.Minute)))
	},
		Entry("minutes after it was renewed", func(ctx context.Context) { clock.Step(600 * day); issue(ctx) }, time.Minute),
		Entry("days after it was renewed", func(ctx context.Context) { clock.Step(600 * day); issue(ctx) }, 3*day),
		Entry("more days after it was renewed", func(ctx context.Context) { clock.Step(600 * day); issue(ctx) }, 8*day),
		Entry("minutes after it rotated", func(ctx context.Context) {
			initiated := clock.Now()
			for _, phase := range []gardencorev1beta1.CredentialsRotationPhase{
				gardencorev1beta1.RotationPreparing, gardencorev1beta1.RotationPrepared, gardencorev1beta1.RotationCompleting, gardencorev1beta1.RotationCompleted,
			} {
				rotation(phase, initiated)
				issue(ctx)
			}
		}, time.Minute),
	)
})

// state is the bundle that nodes trust and the certificate that a cache serves.
type state struct {
	bundle []*x509.Certificate
	server *x509.Certificate
	node   *x509.Certificate
}

func parse(bundle []byte) []*x509.Certificate {
	GinkgoHelper()
	var certificates []*x509.Certificate
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		Expect(err).NotTo(HaveOccurred())
		certificates = append(certificates, certificate)
	}
	return certificates
}
