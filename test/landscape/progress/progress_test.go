// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package progress_test

import (
	"context"
	"errors"
	"fmt"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"

	"github.com/larder-project/larder/test/landscape/progress"
)

var _ = Describe("Log", func() {
	var (
		output *gbytes.Buffer
		log    *progress.Log
	)

	BeforeEach(func() {
		output = gbytes.NewBuffer()
		log = progress.New(output)
	})

	It("returns the error and distinguishes failed from stopped steps", func() {
		broken := errors.New("broken")
		Expect(log.Start("fail")(broken)).To(BeIdenticalTo(broken))
		Expect(output).To(gbytes.Say("failed  fail"))

		Expect(log.Start("wait")(fmt.Errorf("wait: %w", context.Canceled))).To(HaveOccurred())
		Expect(output).To(gbytes.Say("stopped wait"))
	})
})
