// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	fakeclient "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/larder-project/larder/pkg/controller/readiness"
)

var _ = Describe("Collector", func() {
	var (
		elected   chan struct{}
		seed      *fakeclient.ClientBuilder
		collector *Collector
	)

	ready := func(status metav1.ConditionStatus, reason string) string {
		return fmt.Sprintf(`{"conditions":[{"type":"Ready","status":%q,"reason":%q}]}`, status, reason)
	}
	add := func(extensionType, name string, caches ...string) {
		ex := &extensionsv1alpha1.Extension{ObjectMeta: metav1.ObjectMeta{Namespace: "shoot--dev--" + name, Name: extensionType}}
		ex.Spec.Type = extensionType
		if caches != nil {
			ex.Status.ProviderStatus = &runtime.RawExtension{Raw: []byte(`{"caches":[` + strings.Join(caches, ",") + `]}`)}
		}
		seed.WithObjects(ex)
	}

	BeforeEach(func() {
		elected = make(chan struct{})
		seed = fakeclient.NewClientBuilder().WithScheme(kubernetes.SeedScheme)
		isCache := func(object client.Object) bool {
			return object.(*extensionsv1alpha1.Extension).Spec.Type == "registry-cache"
		}
		collector = &Collector{Counts: predicate.NewPredicateFuncs(isCache), Elected: elected}
	})

	It("counts Shoots, and caches by the reason of their condition", func() {
		add("registry-cache", "a", ready(metav1.ConditionTrue, "Ready"), ready(metav1.ConditionTrue, "Degraded"), ready(metav1.ConditionFalse, "NoVolume"))
		add("registry-cache", "b", ready(metav1.ConditionFalse, "NoVolume"), ready(metav1.ConditionUnknown, "Hibernated"), `{}`, ready(metav1.ConditionFalse, "OfAnotherVersion"))
		add("registry-cache", "new")
		add("registry-cache", "unreadable", `1`)
		add("registry-mirror", "a", ready(metav1.ConditionTrue, "Ready"))
		collector.Reader = seed.Build()
		close(elected)

		counts := map[string]int{"Ready": 1, "Degraded": 1, "ContentTooLarge": 0, "AwaitingNodes": 0, "NoVolume": 2, "Unknown": 3}
		for _, reason := range readiness.Problems() {
			counts[string(reason)] += 0
		}
		expected := &strings.Builder{}
		fmt.Fprintln(expected, "# HELP registry_cache_caches Number of registry caches in the seed, by the reason of their condition Ready; Unknown if the condition is unknown.")
		fmt.Fprintln(expected, "# TYPE registry_cache_caches gauge")
		for _, reason := range slices.Sorted(maps.Keys(counts)) {
			fmt.Fprintf(expected, "registry_cache_caches{reason=%q} %d\n", reason, counts[reason])
		}
		fmt.Fprintln(expected, "# HELP registry_cache_shoots Number of Shoots in the seed that have registry caches.")
		fmt.Fprintln(expected, "# TYPE registry_cache_shoots gauge")
		fmt.Fprintln(expected, "registry_cache_shoots 4")
		Expect(testutil.CollectAndCompare(collector, strings.NewReader(expected.String()))).To(Succeed())
		Expect(testutil.CollectAndLint(collector)).To(BeEmpty())
	})

	It("returns nothing unless it is the leader", func() {
		add("registry-cache", "a", ready(metav1.ConditionTrue, "Ready"))
		collector.Reader = seed.Build()
		Expect(testutil.CollectAndCount(collector)).To(BeZero())
		close(elected)
		Expect(testutil.CollectAndCount(collector)).NotTo(BeZero())
	})

	It("does not fail a scrape while the Extensions cannot be read", func() {
		collector.Reader = seed.WithInterceptorFuncs(interceptor.Funcs{
			List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error {
				return errors.New("not started")
			},
		}).Build()
		close(elected)
		metrics := make(chan prometheus.Metric, 100)
		collector.Collect(metrics)
		Expect(metrics).To(BeEmpty())
	})
})
