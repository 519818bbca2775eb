// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package progress_test

import (
	"context"
	"errors"
	"fmt"
	"strings"

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
		Eventually(output, "10s").Should(gbytes.Say("begin   think\n"))
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

	It("shows what a long step is doing in one line that moves, on a terminal", func() {
		terminal := progress.NewTerminal(output, 40)
		step := terminal.Begin("build")
		step.Update("1 of 9 packages · %s", "example.com/a/package/with/a/long/name")
		Eventually(output, "10s").Should(gbytes.Say(`\r\x1b\[K\d\.\d s  build: 1 of 9 packages · exampl.*…`))
		Expect(lastLine(output)).To(HaveLen(39))
		terminal.Note("by the way")
		Expect(output).To(gbytes.Say(`\r\x1b\[Kby the way\n`))
		Eventually(output, "10s").Should(gbytes.Say(`\r\x1b\[K\d\.\d s  build`))
		Expect(step.Done(nil)).To(Succeed())
		Expect(output).To(gbytes.Say(`\r\x1b\[Kdone    build \(\d\.\d s\)\n$`))
	})

	It("says how many more steps are running", func() {
		terminal := progress.NewTerminal(output, 80)
		first, second := terminal.Begin("first"), terminal.Begin("second")
		Eventually(output, "10s").Should(gbytes.Say(`first  \(\+1\)`))
		Expect(first.Done(nil)).To(Succeed())
		Eventually(output, "10s").Should(gbytes.Say(`s  second`))
		Expect(second.Done(nil)).To(Succeed())
	})
})

// lastLine returns the runes of the line that moves.
func lastLine(output *gbytes.Buffer) []rune {
	content := string(output.Contents())
	return []rune(content[strings.LastIndex(content, "\x1b[K")+len("\x1b[K"):])
}
