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
		caches   = []component.Values{{Cache: registry.RegistryCache{Upstream: "docker.io", HTTP: &registry.HTTP{TLS: new(true)}}}}
	)

	BeforeEach(func() {
		clock = testclock.NewFakeClock(time.Date(2026, time.January, 1, 12, 0, 0, 0, time.UTC))
		realClock, realKey := secretsutils.Clock, secretsutils.GenerateKey
		DeferCleanup(func() { secretsutils.Clock, secretsutils.GenerateKey = realClock, realKey })
		secretsutils.Clock = clock
		// Shorter keys are made more quickly.
		secretsutils.GenerateKey = func(random io.Reader, _ int) (*rsa.PrivateKey, error) { return rsa.GenerateKey(random, 2048) }
		// The manager tells old from new by when they were created, which an API server says.
		seed := fakeclient.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{
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
	})

	rotation := func(phase gardencorev1beta1.CredentialsRotationPhase, initiated time.Time) {
		cluster.Shoot.Status.Credentials = &gardencorev1beta1.ShootCredentials{Rotation: &gardencorev1beta1.ShootCredentialsRotation{
			CertificateAuthorities: &gardencorev1beta1.CARotation{Phase: phase, LastInitiationTime: new(metav1.NewTime(initiated))},
		}}
	}

	// issue reconciles the certificates, and expects that nodes which know the bundle can trust the server now.
	issue := func(ctx context.Context) (bundle []*x509.Certificate, server *x509.Certificate) {
		GinkgoHelper()
		issued, err := actuator.issueCertificates(ctx, logr.Discard(), cluster, caches, map[string]net.IP{"registry-docker-io": net.ParseIP("10.0.0.1")})
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
		return bundle, server
	}

	// trusted says that nodes which still have an earlier bundle can trust the server.
	trusted := func(server *x509.Certificate, bundle []*x509.Certificate) bool {
		for _, ca := range bundle {
			if server.CheckSignatureFrom(ca) == nil && clock.Now().Before(ca.NotAfter) {
				return true
			}
		}
		return false
	}

	It("stays as it is from one day to the next", func(ctx SpecContext) {
		first, _ := issue(ctx)
		Expect(first).To(HaveLen(1))
		Expect(first[0].NotAfter).To(Equal(clock.Now().Add(730 * day)))
		clock.Step(500 * day)
		later, _ := issue(ctx)
		Expect(later).To(Equal(first))
	})

	DescribeTable("is renewed after 80 % of its validity, and nodes trust the caches all the time", func(ctx SpecContext, rotatedAfter time.Duration) {
		if rotatedAfter != 0 {
			issue(ctx)
			clock.Step(rotatedAfter)
			rotation(gardencorev1beta1.RotationPreparing, clock.Now())
			issue(ctx)
			rotation(gardencorev1beta1.RotationCompleting, clock.Now())
			issue(ctx)
			rotation(gardencorev1beta1.RotationCompleted, clock.Now())
		}
		first, _ := issue(ctx)
		Expect(first).To(HaveLen(1))

		clock.Step(585 * day)
		both, server := issue(ctx)
		Expect(both).To(HaveLen(2))
		Expect(both).To(ContainElement(first[0]))
		Expect(trusted(server, first)).To(BeTrue())

		clock.Step(6 * day)
		again, server := issue(ctx)
		Expect(again).To(Equal(both), "it is renewed once")
		Expect(trusted(server, first)).To(BeTrue())

		clock.Step(2 * day)
		renewed, server := issue(ctx)
		Expect(renewed).To(HaveLen(1))
		Expect(renewed).NotTo(ContainElement(first[0]))
		Expect(trusted(server, both)).To(BeTrue())
	},
		Entry("in a Shoot whose CAs never rotated", time.Duration(0)),
		Entry("in a Shoot whose CAs rotated long ago", 100*day),
	)

	It("is renewed when it has expired, as after a long hibernation", func(ctx SpecContext) {
		first, _ := issue(ctx)
		clock.Step(1000 * day)
		renewed, _ := issue(ctx)
		Expect(renewed).To(HaveLen(1))
		Expect(renewed).NotTo(Equal(first))
	})

	It("rotates with the CAs of the Shoot, however long that takes", func(ctx SpecContext) {
		first, _ := issue(ctx)
		clock.Step(10 * day)

		rotation(gardencorev1beta1.RotationPreparing, clock.Now())
		both, server := issue(ctx)
		Expect(both).To(HaveLen(2))
		Expect(trusted(server, first)).To(BeTrue())

		rotation(gardencorev1beta1.RotationPrepared, clock.Now())
		clock.Step(60 * day)
		rotation(gardencorev1beta1.RotationPrepared, clock.Now().Add(-60*day))
		again, server := issue(ctx)
		Expect(again).To(Equal(both))
		Expect(trusted(server, first)).To(BeTrue())

		rotation(gardencorev1beta1.RotationCompleting, clock.Now().Add(-60*day))
		second, server := issue(ctx)
		Expect(second).To(HaveLen(1))
		Expect(second).NotTo(Equal(first))
		Expect(trusted(server, both)).To(BeTrue())
	})

	It("rotates with the CAs of the Shoot soon after it was renewed, too", func(ctx SpecContext) {
		issue(ctx)
		clock.Step(600 * day)
		renewed, _ := issue(ctx)
		clock.Step(8 * day)
		rotation(gardencorev1beta1.RotationPreparing, clock.Now())
		rotated, server := issue(ctx)
		Expect(rotated).To(HaveLen(2))
		Expect(rotated).NotTo(Equal(renewed))
		Expect(trusted(server, renewed)).To(BeTrue())
	})
})

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
