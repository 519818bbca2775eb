// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package steps_test

import (
	"context"
	"errors"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/test/landscape/steps"
)

var _ = Describe("Run", func() {
	nothing := func(context.Context) error { return nil }

	It("runs independent steps at the same time and dependent ones later", func() {
		meet := make(chan struct{})
		finished := 0
		Expect(steps.Run(GinkgoT().Context(), []steps.Step{
			{Name: "left", Run: func(context.Context) error { meet <- struct{}{}; return nil }},
			{Name: "right", Run: func(context.Context) error { <-meet; finished++; return nil }},
			{Name: "last", After: []string{"left", "right"}, Run: func(context.Context) error {
				Expect(finished).To(Equal(1))
				return nil
			}},
		})).To(Succeed())
	})

	It("ends with the first failure", func() {
		broken := errors.New("broken")
		Expect(steps.Run(GinkgoT().Context(), []steps.Step{
			{Name: "broken", Run: func(context.Context) error { return broken }},
			{Name: "patient", Run: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
			{Name: "next", After: []string{"broken"}, Run: func(context.Context) error {
				Fail("the next step has begun")
				return nil
			}},
		})).To(MatchError(broken))
	})

	DescribeTable("refuses what has no order",
		func(message string, all ...steps.Step) {
			Expect(steps.Run(GinkgoT().Context(), all)).To(MatchError(ContainSubstring(message)))
		},
		Entry("a dependency that comes later", "depends on",
			steps.Step{Name: "a", After: []string{"b"}, Run: nothing}, steps.Step{Name: "b", Run: nothing}),
		Entry("a name that is used twice", "two steps",
			steps.Step{Name: "a", Run: nothing}, steps.Step{Name: "a", Run: nothing}),
	)
})
