// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package problem_test

import (
	"errors"
	"fmt"
	"strings"

	v1beta1helper "github.com/gardener/gardener/pkg/api/core/v1beta1/helper"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/problem"
)

var _ = Describe("Join", func() {
	It("returns nil for no problems", func() {
		Expect(problem.Join(nil)).To(Succeed())
	})

	It("returns one error with the codes of all problems", func() {
		err := problem.Join([]error{
			problem.Retryable(errors.New("late")), errors.New("odd"), problem.Configuration(errors.New("wrong")), problem.Configuration(errors.New("bad")),
		})
		Expect(err).To(MatchError("late\nodd\nwrong\nbad"))
		Expect(v1beta1helper.ExtractErrorCodes(err)).To(ConsistOf(gardencorev1beta1.ErrorRetryableConfigurationProblem, gardencorev1beta1.ErrorConfigurationProblem))
	})

	It("shortens each problem", func() {
		var problems []error
		for i := range 2 {
			problems = append(problems, problem.Retryable(fmt.Errorf("cache %d: %s", i, strings.Repeat("denied by an admission webhook ", 10000))))
		}
		err := problem.Join(problems)
		Expect(err).To(MatchError(And(ContainSubstring("cache 0"), ContainSubstring("cache 1"))))
		Expect(len(err.Error())).To(BeNumerically("<=", 2*problem.MaxLength+1))
		Expect(v1beta1helper.ExtractErrorCodes(err)).To(ConsistOf(gardencorev1beta1.ErrorRetryableConfigurationProblem))
	})
})
