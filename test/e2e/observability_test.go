// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	monitoringv1alpha1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/component/observability"
	"github.com/larder-project/larder/pkg/controller/readiness"
	"github.com/larder-project/larder/test/landscape/garden"
	"github.com/larder-project/larder/test/landscape/monitoring"
)

// faster makes an hour last a minute for Prometheus. The promtool tests of the rules use the real durations.
const faster = 60

var _ = Describe("Observability", func() {
	It("fires each alert while its cause lasts, and every panel has data", Label("observability"), func(ctx context.Context) {
		caches := startObservedCaches(ctx)
		shoot, seed := startMonitoring(ctx)
		expectScraped(ctx, shoot, caches)

		By("serving pulls")
		caches.pull(ctx)
		expectRecorded(ctx, shoot, caches)
		log := watchAlerts(ctx, shoot)

		By("making the causes of all alerts")
		causes := newCauses(caches)
		Expect(causes.alerts()).To(ConsistOf(alertNames()), "each alert has a cause")
		// The configuration of the next journey needs the node and gardener-resource-manager.
		defer restore(ctx)
		causes.begin(ctx)
		Eventually(ctx, log.all).WithTimeout(alertTimeout).Should(ContainElements(causes.expected()))

		By("finding the causes in the conditions")
		expectConditions(ctx, map[string]readiness.Reason{
			unreachableHost: readiness.UpstreamUnreachable,
			rejectedHost:    readiness.CredentialRejected,
			fullHost:        readiness.DiskFull,
			certificateHost: readiness.CertificateExpiring,
			replicatedHost:  readiness.Degraded,
		})
		Eventually(ctx, func(g Gomega) {
			condition := systemComponents(g, getShoot(ctx))
			g.Expect(condition.Status).To(Equal(gardencorev1beta1.ConditionFalse))
			g.Expect(condition.Message).To(ContainSubstring(rejectedHost))
		}).Should(Succeed())

		By("querying all panels")
		panels := expectPanels(ctx, shoot, seed)

		By("ending the causes")
		causes.end(ctx)
		Eventually(ctx, log.firing).WithTimeout(alertTimeout).Should(BeEmpty())
		Expect(log.all()).To(ConsistOf(causes.expected()), "no other alert has fired")
		// The condition would last for ten minutes after the last blob that was not stored. A new process knows of none.
		restartCache(ctx, fullHost)
		expectConditions(ctx, nil)
		Eventually(ctx, func(g Gomega) {
			g.Expect(systemComponents(g, getShoot(ctx)).Status).To(Equal(gardencorev1beta1.ConditionTrue))
		}).Should(Succeed())
		writeEvidence("panels", panels)
		writeEvidence("alerts", log.table(causes))
	}, SpecTimeout(journeyTimeout))

	It("does not observe Shoots for tests", Label("observability-testing"), func(ctx context.Context) {
		monitoringClient := monitoringClient()
		key := client.ObjectKey{Namespace: seedNamespace, Name: "shoot-registry-cache"}
		dashboards := client.ObjectKey{Namespace: seedNamespace, Name: observability.DashboardConfigMapName}
		configure(ctx, garden.Cache(garden.PrivateHost))
		Expect(monitoringClient.Get(ctx, key, &monitoringv1alpha1.ScrapeConfig{})).To(Succeed())
		Expect(monitoringClient.Get(ctx, key, &monitoringv1.PrometheusRule{})).To(Succeed())
		Expect(c.Get(ctx, dashboards, &corev1.ConfigMap{})).To(Succeed())

		By("changing the purpose of the Shoot")
		shoot, err := garden.Shoot(here, garden.Cache(garden.PrivateHost))
		Expect(err).NotTo(HaveOccurred())
		shoot.Spec.Purpose = new(gardencorev1beta1.ShootPurposeTesting)
		Expect(garden.ApplyShoot(ctx, c, shoot)).To(Succeed())
		expectGone(ctx, &corev1.ConfigMap{}, dashboards)
		for _, object := range []client.Object{&monitoringv1alpha1.ScrapeConfig{}, &monitoringv1.PrometheusRule{}} {
			Expect(client.IgnoreNotFound(monitoringClient.Get(ctx, key, object))).To(Succeed())
			Expect(object.GetName()).To(BeEmpty())
		}
	}, SpecTimeout(journeyTimeout))
})

// alertTimeout exceeds the time of the slowest alert, on a slow machine.
const alertTimeout = 8 * time.Minute

func monitoringClient() client.Client {
	GinkgoHelper()
	c, err := monitoring.NewClient(here)
	Expect(err).NotTo(HaveOccurred())
	return c
}

// startMonitoring starts the Prometheus instances of the Shoot and of the seed.
func startMonitoring(ctx context.Context) (shoot, seed *monitoring.Prometheus) {
	GinkgoHelper()
	monitoringClient := monitoringClient()
	Expect(monitoring.Prepare(ctx, here, monitoringClient, seedNamespace)).To(Succeed())
	DeferCleanup(monitoring.Remove, here, monitoringClient, seedNamespace)
	start := func(name string, labels map[string]string) *monitoring.Prometheus {
		p, err := monitoring.Start(ctx, here, monitoring.Options{Name: name, Namespace: seedNamespace, ExternalLabels: labels, Faster: faster})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(p.Stop)
		return p
	}
	return start(monitoring.Shoot, map[string]string{"cluster": seedNamespace}), start(monitoring.Seed, nil)
}

// expectConditions expects the reason of the condition of each observed cache, by default that it is ready.
func expectConditions(ctx context.Context, reasons map[string]readiness.Reason) {
	GinkgoHelper()
	for _, host := range observedHosts {
		expected := cmp.Or(reasons[host], readiness.Ready)
		Eventually(ctx, func(g Gomega) {
			condition := meta.FindStatusCondition(cacheStatus(ctx, g, host).Conditions, registry.ConditionReady)
			g.Expect(condition).NotTo(BeNil(), host)
			g.Expect(condition.Reason).To(BeEquivalentTo(expected), host+": "+condition.Message)
		}).Should(Succeed())
	}
}

// alertNames returns the names of all alerts in the catalog.
func alertNames() []string {
	var names []string
	for _, alert := range observability.Alerts() {
		names = append(names, alert.Name)
	}
	return names
}

// writeEvidence writes a table into the directory of the landscape.
func writeEvidence(name, table string) {
	GinkgoHelper()
	AddReportEntry(name, "\n"+strings.TrimSpace(table))
	path := filepath.Join(here.Dir(), name+".md")
	Expect(os.WriteFile(path, []byte(table), 0o600)).To(Succeed())
	_, _ = fmt.Fprintln(GinkgoWriter, "wrote", path)
}
