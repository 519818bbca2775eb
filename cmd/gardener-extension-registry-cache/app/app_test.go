// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"io"

	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

var _ = Describe("App", func() {
	DescribeTable("refuses", func(message string, args ...string) {
		cmd := NewCommand()
		cmd.SetArgs(args)
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		Expect(cmd.Execute()).To(MatchError(ContainSubstring(message)))
	},
		Entry("a missing flag for the configuration", "--config must name the configuration file"),
		Entry("a missing configuration file", "no-such-file", "--config=no-such-file"),
		Entry("an invalid interval", "--heartbeat-renew-interval-seconds", "--heartbeat-renew-interval-seconds=0"),
		Entry("an unknown flag", "--no-such-flag", "--no-such-flag"),
		Entry("arguments", "unknown command", "argument"),
	)

	It("keeps only the Shoot of a Cluster", func() {
		shoot := runtime.RawExtension{Raw: []byte(`{"kind":"Shoot"}`)}
		stripped, err := stripCluster(&extensionsv1alpha1.Cluster{
			ObjectMeta: metav1.ObjectMeta{Name: "shoot--dev--example", ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "gardenlet"}}},
			Spec: extensionsv1alpha1.ClusterSpec{
				CloudProfile: runtime.RawExtension{Raw: []byte(`{"kind":"CloudProfile"}`)},
				Seed:         &runtime.RawExtension{Raw: []byte(`{"kind":"Seed"}`)},
				Shoot:        shoot,
			},
		})
		Expect(err).NotTo(HaveOccurred())
		Expect(stripped).To(Equal(&extensionsv1alpha1.Cluster{
			ObjectMeta: metav1.ObjectMeta{Name: "shoot--dev--example"},
			Spec:       extensionsv1alpha1.ClusterSpec{Shoot: shoot},
		}))
	})

	It("keeps only the identity and the labels of a Namespace", func() {
		namespace := &corev1.Namespace{
			ObjectMeta: metav1.ObjectMeta{
				Name: "shoot--dev--example", UID: "1", ResourceVersion: "2", Labels: map[string]string{"gardener.cloud/role": "shoot"},
				Annotations: map[string]string{"shoot.gardener.cloud/uid": "3"}, ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "gardenlet"}},
			},
			Status: corev1.NamespaceStatus{Phase: corev1.NamespaceActive},
		}
		stripped, err := stripNamespace(namespace)
		Expect(err).NotTo(HaveOccurred())
		Expect(stripped).To(Equal(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name: "shoot--dev--example", UID: "1", ResourceVersion: "2", Labels: namespace.Labels,
		}}))
	})

	It("does not cache Secrets", func() {
		Expect(clientOptions().Cache.DisableFor).To(ContainElement(BeAssignableToTypeOf(&corev1.Secret{})))
	})
})
