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
	It("is the owner's problem if credentials do not fit into it", func(ctx SpecContext) {
		credentials := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "credentials"}, Data: map[string][]byte{"password": make([]byte, corev1.MaxSecretSize)}}
		_, _ = rand.Read(credentials.Data["password"])
		_, err := (&Actuator{Client: fakeclient.NewFakeClient()}).deploySecret(ctx, "shoot--foo--bar", ManagedResource, []client.Object{credentials})
		Expect(err).To(MatchError(ContainSubstring("more than the maximum of 1048576; use fewer or smaller credentials")))
		Expect(v1beta1helper.ExtractErrorCodes(err)).To(ConsistOf(gardencorev1beta1.ErrorConfigurationProblem))
	})
})
