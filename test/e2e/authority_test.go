// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/test/landscape/evidence"
	"github.com/larder-project/larder/test/landscape/garden"
	"github.com/larder-project/larder/test/landscape/upstream"
)

const (
	// authorityTimeout includes the minutes for which the old CA stays in the bundle after the caches have changed.
	authorityTimeout = 15 * time.Minute
	// securePullsPerSecond is the rate of pulls with TLS, each on a new connection.
	securePullsPerSecond = 5
)

var _ = Describe("Rotating CAs", func() {
	It("does not fail any pull", Label("rotation-ca"), func(ctx context.Context) {
		configure(ctx, garden.Cache(garden.PrivateHost))
		image := newImage(ctx, garden.PrivateHost)
		pull(ctx, image)
		DeferCleanup(func(ctx context.Context) {
			patchShootStatus(ctx, func(status *gardencorev1beta1.ShootStatus) { status.Credentials = nil })
		})
		before, first := cachePod(ctx), nodeBundle()
		Expect(first).To(HaveLen(1))
		load := startNodePulls(ctx, image)

		By("preparing: the node trusts the new CA, and the cache keeps its certificate")
		rotateAuthorities(ctx, gardencorev1beta1.RotationPreparing)
		both := nodeBundle()
		Expect(both).To(HaveLen(2))
		Expect(both).To(ContainElement(first[0]))
		Expect(serves(ctx, first)).To(Succeed())

		By("prepared: the cache gets a certificate of the new CA, and the node trusts both")
		rotateAuthorities(ctx, gardencorev1beta1.RotationPrepared)
		Expect(nodeBundle()).To(Equal(both))
		second := both[:1]
		if second[0].Equal(first[0]) {
			second = both[1:]
		}
		Eventually(ctx, func() error { return serves(ctx, second) }).WithTimeout(4 * time.Minute).Should(Succeed())

		By("completing: the first reconciliation after the cache's grace period removes the old CA from the bundle")
		rotateAuthorities(ctx, gardencorev1beta1.RotationCompleting)
		Eventually(ctx, func(g Gomega) {
			rotateAuthorities(ctx, gardencorev1beta1.RotationCompleted)
			g.Expect(nodeBundle()).To(Equal(second))
		}).WithTimeout(8 * time.Minute).WithPolling(20 * time.Second).Should(Succeed())
		Expect(serves(ctx, second)).To(Succeed())
		pull(ctx, newImage(ctx, garden.PrivateHost))

		result, after := load.stop(), cachePod(ctx)
		AddReportEntry("CA rotation", fmt.Sprintf("%d pulls in %s, %d failed; restarts: %d",
			result.pulls, result.duration.Round(time.Second), len(result.failures), after.Status.ContainerStatuses[0].RestartCount))
		Expect(result.failures).To(BeEmpty())
		Expect(result.pulls).To(BeNumerically(">", 0))
		Expect(after.UID).To(Equal(before.UID))
		Expect(after.Status.ContainerStatuses[0].RestartCount).To(BeZero())
	}, SpecTimeout(authorityTimeout))
})

// rotateAuthorities moves the rotation of the Shoot's CAs to a phase, like gardenlet, and reconciles the Shoot.
func rotateAuthorities(ctx context.Context, phase gardencorev1beta1.CredentialsRotationPhase) {
	GinkgoHelper()
	patchShootStatus(ctx, func(status *gardencorev1beta1.ShootStatus) {
		// Kubernetes truncates times to seconds, and a phase takes about one on the landscape. Its end is a second ahead, so
		// that it is after the creation of the CA, as it is in a real Shoot.
		now, end := new(metav1.Now()), new(metav1.NewTime(time.Now().Add(time.Second)))
		if status.Credentials == nil {
			status.Credentials = &gardencorev1beta1.ShootCredentials{Rotation: &gardencorev1beta1.ShootCredentialsRotation{
				CertificateAuthorities: &gardencorev1beta1.CARotation{LastInitiationTime: now},
			}}
		}
		rotation := status.Credentials.Rotation.CertificateAuthorities
		rotation.Phase = phase
		switch phase {
		case gardencorev1beta1.RotationPrepared:
			rotation.LastInitiationFinishedTime = end
		case gardencorev1beta1.RotationCompleted:
			rotation.LastInitiationFinishedTime, rotation.LastCompletionTime = nil, end
		}
	})
	reconcileShoot(ctx)
}

func patchShootStatus(ctx context.Context, change func(*gardencorev1beta1.ShootStatus)) {
	GinkgoHelper()
	shoot := getShoot(ctx)
	patch := client.MergeFrom(shoot.DeepCopy())
	change(&shoot.Status)
	Expect(c.Status().Patch(ctx, shoot, patch)).To(Succeed())
}

// nodeBundleFile is the file on the node with the CAs of the caches.
func nodeBundleFile() string {
	return filepath.Join(filepath.Dir(filepath.Dir(evidence.HostsFile(here, garden.PrivateHost))), "ca-bundle.pem")
}

// nodeBundle returns the CAs that the node trusts for the caches.
func nodeBundle() []*x509.Certificate {
	GinkgoHelper()
	content, err := os.ReadFile(nodeBundleFile())
	Expect(err).NotTo(HaveOccurred())
	var authorities []*x509.Certificate
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		authority, err := x509.ParseCertificate(block.Bytes)
		Expect(err).NotTo(HaveOccurred())
		authorities = append(authorities, authority)
	}
	return authorities
}

// serves returns an error unless the certificate of the cache is signed by one of the CAs.
func serves(ctx context.Context, authorities []*x509.Certificate) error {
	endpoint, err := url.Parse(providerStatus(ctx).Endpoint)
	if err != nil {
		return err
	}
	dial, err := evidence.Dialer(here)
	if err != nil {
		return err
	}
	connection, err := dial(ctx, "tcp", endpoint.Host)
	if err != nil {
		return err
	}
	defer connection.Close()
	roots := x509.NewCertPool()
	for _, authority := range authorities {
		roots.AddCert(authority)
	}
	host, _, err := net.SplitHostPort(endpoint.Host)
	if err != nil {
		return err
	}
	return tls.Client(connection, &tls.Config{RootCAs: roots, ServerName: host, MinVersion: tls.VersionTLS12}).HandshakeContext(ctx)
}

// startNodePulls repeatedly pulls an image from its cache like the node: with the CAs that the node trusts at that
// time, and a new connection for each pull.
func startNodePulls(ctx context.Context, image string) *load {
	GinkgoHelper()
	endpoint, err := url.Parse(providerStatus(ctx).Endpoint)
	Expect(err).NotTo(HaveOccurred())
	Expect(endpoint.Scheme).To(Equal("https"))
	dial, err := evidence.Dialer(here)
	Expect(err).NotTo(HaveOccurred())
	reference := endpoint.Host + "/" + strings.TrimPrefix(image, garden.PrivateHost+"/")

	l := &load{begun: time.Now()}
	ctx, l.cancel = context.WithCancel(ctx)
	DeferCleanup(l.cancel)
	l.running.Go(func() {
		ticker := time.NewTicker(time.Second / securePullsPerSecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			authority, err := os.ReadFile(nodeBundleFile())
			if err != nil {
				l.fail(err)
				continue
			}
			l.running.Go(func() {
				l.pull(context.WithoutCancel(ctx), upstream.Client{CA: authority, Dial: dial}, reference)
			})
		}
	})
	return l
}
