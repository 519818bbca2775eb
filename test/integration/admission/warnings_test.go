// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"github.com/gardener/gardener/pkg/client/kubernetes"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

var _ = Describe("Warnings", func() {
	It("reach the client that introduces a risk, once", func() {
		var warnings warnings
		config := rest.CopyConfig(restConfig)
		config.WarningHandler = &warnings
		warned, err := client.New(config, client.Options{Scheme: kubernetes.GardenScheme})
		Expect(err).NotTo(HaveOccurred())

		shoot := newShoot(caches(`{"upstream":"docker.io"},{"upstream":"private.example.com","remoteURL":"http://private.example.com","secretReferenceName":"robot"}`), resource(newSecret()))
		Expect(warned.Create(ctx, shoot)).To(Succeed())
		Expect(warnings).To(ContainElements(
			HavePrefix("cache private.example.com: the credential is sent unencrypted"),
			HavePrefix("cache private.example.com: every pod in the cluster can pull"),
			HavePrefix("cache docker.io: without a credential, Docker Hub applies"),
		))
		Expect(warnings).NotTo(ContainElement(ContainSubstring("hunter2")))

		warnings = nil
		shoot.Labels["team"] = "a"
		Expect(warned.Update(ctx, shoot)).To(Succeed())
		resource(newSecret())(shoot)
		Expect(warned.Update(ctx, shoot)).To(Succeed())
		Expect(warnings).NotTo(ContainElement(Or(ContainSubstring("cache "), ContainSubstring("Secret "))))
	})
})

// warnings are the warnings to a client.
type warnings []string

func (w *warnings) HandleWarningHeader(_ int, _ string, text string) { *w = append(*w, text) }
