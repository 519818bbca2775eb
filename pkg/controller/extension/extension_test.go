// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package extension_test

import (
	gardenextension "github.com/gardener/gardener/pkg/component/extensions/extension"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/larder-project/larder/pkg/controller/extension"
)

var _ = It("retries a failed Extension before gardenlet gives up on it", func() {
	limiter, request := extension.BackOff(), reconcile.Request{}
	for range 100 {
		Expect(limiter.When(request)).To(BeNumerically("<=", gardenextension.DefaultSevereThreshold/2))
	}
})
