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

	It("writes one line about a step that is quick", func() {
		Expect(log.Start("blink")(nil)).To(Succeed())
		Expect(output.Contents()).To(MatchRegexp(`^done    blink \(0\.\d s\)\n$`))
	})

	It("says when a step that takes longer has begun", func() {
		done := log.Start("think")
		Eventually(output, "3s").Should(gbytes.Say("begin   think\n"))
		Expect(done(nil)).To(Succeed())
		Expect(output).To(gbytes.Say("done    think"))
	})

	It("hands the error back and tells failures from steps that were stopped", func() {
		broken := errors.New("broken")
		Expect(log.Start("fail")(broken)).To(BeIdenticalTo(broken))
		Expect(output).To(gbytes.Say("failed  fail"))

		Expect(log.Start("wait")(fmt.Errorf("wait: %w", context.Canceled))).To(HaveOccurred())
		Expect(output).To(gbytes.Say("stopped wait"))
	})
})
