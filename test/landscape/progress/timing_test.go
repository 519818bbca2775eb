// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package progress_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/test/landscape/progress"
)

func TestQuickStepsTakeOneLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, output := NewWithT(t), &strings.Builder{}
		done := progress.New(output).Start("blink")
		time.Sleep(100 * time.Millisecond)
		g.Expect(done(nil)).To(Succeed())
		g.Expect(output.String()).To(Equal("done    blink (0.1 s)\n"))
	})
}

func TestLongerStepsAreMentionedWhileTheyRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, output := NewWithT(t), &strings.Builder{}
		done := progress.New(output).Start("think")
		time.Sleep(100 * time.Second)
		synctest.Wait()
		g.Expect(output.String()).To(Equal("begin   think\nrunning think (31.0 s)\nrunning think (1:01 min)\nrunning think (1:31 min)\n"))
		g.Expect(done(nil)).To(Succeed())
		g.Expect(output.String()).To(HaveSuffix("done    think (1:40 min)\n"))
	})
}

func TestStepsShareTheMovingLineOfATerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, output := NewWithT(t), &strings.Builder{}
		shown := func() string {
			time.Sleep(time.Second)
			synctest.Wait()
			lines := strings.Split(output.String(), "\r\x1b[K")
			return lines[len(lines)-1]
		}
		log := progress.NewTerminal(output, 40)
		first := log.Begin("build")
		g.Expect(log.Start("blink")(nil)).To(Succeed())
		g.Expect(output.String()).To(Equal("done    blink (0.0 s)\n"))

		first.Update("1 of 9 packages · %s", "example.com/a/package/with/a/long/name")
		time.Sleep(time.Second)
		g.Expect(shown()).To(Equal("2.0 s  build: 1 of 9 packages · exampl…"))
		second := log.Begin("think")
		first.Update("2 of 9 packages")
		g.Expect(shown()).To(Equal("3.0 s  build: 2 of 9 packages  (+1)"))
		log.Note("by the way")
		g.Expect(output.String()).To(ContainSubstring("\r\x1b[Kby the way\n"))
		g.Expect(first.Done(nil)).To(Succeed())
		g.Expect(shown()).To(Equal("2.0 s  think"))
		g.Expect(second.Done(nil)).To(Succeed())
		g.Expect(output.String()).To(HaveSuffix("\r\x1b[Kdone    think (2.0 s)\n"))
	})
}
