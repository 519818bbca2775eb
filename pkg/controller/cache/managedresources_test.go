// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"crypto/rand"

	v1beta1helper "github.com/gardener/gardener/pkg/api/core/v1beta1/helper"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	fakeclient "sigs.k8s.io/controller-runtime/pkg/client/fake"
)

var _ = Describe("The Secret of a ManagedResource", func() {
	DescribeTable("is the owner's problem if the objects do not fit into it", func(ctx SpecContext, name, text string) {
		content := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "content"}, Data: map[string][]byte{"password": make([]byte, corev1.MaxSecretSize)}}
		_, _ = rand.Read(content.Data["password"])
		_, err := (&Actuator{Client: fakeclient.NewFakeClient()}).deploySecret(ctx, "shoot--foo--bar", name, []client.Object{content})
		Expect(err).To(MatchError(And(
			ContainSubstring("the objects of ManagedResource "+name+" have"),
			ContainSubstring("more than the maximum of 1048576; use fewer or smaller "+text))))
		Expect(v1beta1helper.ExtractErrorCodes(err)).To(ConsistOf(gardencorev1beta1.ErrorConfigurationProblem))
	},
		Entry("caches", ManagedResource, "credentials"),
		Entry("connections", "extension-registry-cache-large", "CA bundles, client certificates and credentials for proxies"),
		Entry("Services", ManagedResourceServices, "caches"),
		Entry("pull secrets", ManagedResourcePullSecrets, "credentials for pull secrets"),
	)
})
