// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package shoot_test

import (
	"context"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/larder-project/larder/pkg/admission/shoot"
)

var _ = Describe("Warnings", func() {
	const (
		plain     = "cache quay.io: the credential is sent unencrypted"
		shared    = "cache quay.io: every pod in the cluster can pull"
		rateLimit = "cache docker.io: without a credential, Docker Hub applies"
	)
	var (
		handler *shoot.Handler
		public  = config(`{"upstream":"ghcr.io"}`)
		hub     = config(`{"upstream":"docker.io"}`)
		private = config(`{"upstream":"quay.io","secretReferenceName":"robot"}`)
		inPlain = config(`{"upstream":"quay.io","remoteURL":"http://quay.io/","secretReferenceName":"robot"}`)
	)

	BeforeEach(func() {
		scheme := runtime.NewScheme()
		Expect(corev1.AddToScheme(scheme)).To(Succeed())
		Expect(gardencorev1beta1.AddToScheme(scheme)).To(Succeed())
		var err error
		handler, err = shoot.NewHandler(admission.NewDecoder(scheme), fake.NewClientBuilder().WithScheme(scheme).WithObjects(newSecret("v1"), newSecret("v2")).Build())
		Expect(err).NotTo(HaveOccurred())
	})

	// warnings returns the warnings of an update, or of a creation if there is no old Shoot.
	warnings := func(oldShoot, shoot *gardencorev1beta1.Shoot) []string {
		GinkgoHelper()
		response := handler.Handle(context.Background(), review(shoot, oldShoot))
		Expect(response.Allowed).To(BeTrue())
		for _, warning := range response.Warnings {
			Expect(len(warning)).To(BeNumerically("<=", 256), "an API server may truncate it")
			Expect(warning).NotTo(ContainSubstring("hunter2"))
		}
		return response.Warnings
	}

	DescribeTable("of a new Shoot",
		func(expected []string, changes ...change) {
			matchers := make([]any, 0, len(expected))
			for _, prefix := range expected {
				matchers = append(matchers, HavePrefix(prefix))
			}
			Expect(warnings(nil, newShoot(changes...))).To(ConsistOf(matchers...))
		},
		Entry("without the extension", nil, private, disabled),
		Entry("public", nil, public),
		Entry("Docker Hub", []string{rateLimit}, hub),
		Entry("Docker Hub under another name", []string{"cache hub.example.com: without"}, config(`{"upstream":"hub.example.com","remoteURL":"https://registry-1.docker.io"}`)),
		Entry("another registry under the name of Docker Hub", nil, config(`{"upstream":"docker.io","remoteURL":"https://mirror.example.com"}`)),
		Entry("Docker Hub with credentials", []string{"cache docker.io: every pod"}, config(`{"upstream":"docker.io","secretReferenceName":"robot"}`), resource("robot", "v1")),
		Entry("credentials", []string{shared}, private, resource("robot", "v1")),
		Entry("credentials over plain HTTP", []string{plain, shared}, inPlain, resource("robot", "v1")),
		Entry("credentials in a mode that does not share them", nil,
			config(`{"upstream":"quay.io","secretReferenceName":"robot","access":{"mode":"PullSecrets"}},{"upstream":"ghcr.io","secretReferenceName":"robot","access":{"mode":"Nodes"}}`), resource("robot", "v1")),
		Entry("pull secrets over plain HTTP", []string{"cache quay.io: pull secrets of pods are sent unencrypted"}, config(`{"upstream":"quay.io","remoteURL":"http://quay.io","access":{"mode":"PullSecrets"}}`)),
		Entry("pull secrets for another host", []string{"cache quay.io: pull secrets of pods are sent to another host"}, config(`{"upstream":"quay.io","remoteURL":"https://mirror.example.com","access":{"mode":"PullSecrets"}}`)),
		Entry("another host in a mode without pull secrets", nil, config(`{"upstream":"quay.io","remoteURL":"https://mirror.example.com","access":{"mode":"Nodes"}}`)),
		Entry("pull secrets for Docker Hub", []string{rateLimit}, config(`{"upstream":"docker.io","access":{"mode":"PullSecrets"}}`)),
		Entry("plain HTTP without credentials", nil, config(`{"upstream":"quay.io","remoteURL":"http://quay.io"}`)),
		Entry("all warnings", []string{plain, shared, rateLimit},
			config(`{"upstream":"quay.io","remoteURL":"http://quay.io","secretReferenceName":"robot"},{"upstream":"docker.io"}`), resource("robot", "v1")),
		Entry("many caches", []string{"cache a, b, c and 2 more: every pod"},
			config(`{"upstream":"e","secretReferenceName":"robot"},{"upstream":"d","secretReferenceName":"robot"},{"upstream":"c","secretReferenceName":"robot"},`+
				`{"upstream":"b","secretReferenceName":"robot"},{"upstream":"a","secretReferenceName":"robot"}`), resource("robot", "v1")),
	)

	It("are not repeated", func() {
		before := newShoot(config(`{"upstream":"quay.io","remoteURL":"http://quay.io","secretReferenceName":"robot"},{"upstream":"docker.io"}`), resource("robot", "v1"))
		for _, change := range []change{
			func(s *gardencorev1beta1.Shoot) { s.Spec.Purpose = new(gardencorev1beta1.ShootPurposeTesting) },
			config(`{"upstream":"quay.io","remoteURL":"http://quay.io/","secretReferenceName":"robot"},{"upstream":"docker.io","volume":{"size":"20Gi"}}`),
		} {
			after := before.DeepCopy()
			change(after)
			Expect(warnings(before, after)).To(BeEmpty())
		}
	})

	It("are not returned for a rotation", func() {
		Expect(warnings(newShoot(inPlain, resource("robot", "v1")), newShoot(inPlain, resource("robot", "v2")))).To(BeEmpty())
	})

	It("are returned when a cache starts to send a credential unencrypted", func() {
		Expect(warnings(newShoot(private, resource("robot", "v1")), newShoot(inPlain, resource("robot", "v1")))).To(ConsistOf(HavePrefix(plain)))
		Expect(warnings(newShoot(inPlain, resource("robot", "v1")), newShoot(private, resource("robot", "v1")))).To(BeEmpty())
	})

	It("are returned when a cache shares its credential", func() {
		restricted := config(`{"upstream":"quay.io","secretReferenceName":"robot","access":{"mode":"Nodes"}}`)
		Expect(warnings(newShoot(restricted, resource("robot", "v1")), newShoot(private, resource("robot", "v1")))).To(ConsistOf(
			And(HavePrefix(shared), ContainSubstring("set access.mode to PullSecrets or Nodes"))))
		Expect(warnings(newShoot(private, resource("robot", "v1")), newShoot(restricted, resource("robot", "v1")))).To(BeEmpty())
	})

	It("are returned when a cache gets or loses a credential", func() {
		hubWithCredentials := config(`{"upstream":"docker.io","secretReferenceName":"robot"}`)
		Expect(warnings(newShoot(hub), newShoot(hubWithCredentials, resource("robot", "v1")))).To(ConsistOf(HavePrefix("cache docker.io: every pod")))
		Expect(warnings(newShoot(hubWithCredentials, resource("robot", "v1")), newShoot(hub))).To(ConsistOf(HavePrefix(rateLimit)))
		Expect(warnings(newShoot(public), newShoot(config(`{"upstream":"ghcr.io"},{"upstream":"docker.io"}`)))).To(ConsistOf(HavePrefix(rateLimit)))
	})

	It("are returned when the extension is enabled", func() {
		Expect(warnings(newShoot(hub, disabled), newShoot(hub))).To(ConsistOf(HavePrefix(rateLimit)))
	})

	It("tolerate a configuration that cannot be decoded", func() {
		Expect(warnings(newShoot(rawConfig(`"x"`)), newShoot(rawConfig(`"x"`)))).To(BeEmpty())
		Expect(warnings(newShoot(rawConfig(`"x"`)), newShoot(hub))).To(ConsistOf(HavePrefix(rateLimit)))
	})
})
