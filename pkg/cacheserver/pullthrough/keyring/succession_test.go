// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/credentials"
)

func TestAWorkingCredentialSurvivesASeriesOfWrongOnes(t *testing.T) {
	g := NewWithT(t)
	named := func(password string) credentials.Credential {
		return credentials.Credential{Username: "robot", Password: password}
	}
	var s succession
	now := time.Now()
	s.add(named("good"))
	s.accept(named("good"), nil, now)
	for _, wrong := range []string{"first", "second", "third"} {
		s.add(named(wrong))
		g.Expect(s.preferred(now)).To(Equal(named(wrong)), "the upstream has not rejected it yet")
		other, ok := s.other([]credentials.Credential{named(wrong)})
		g.Expect(ok).To(BeTrue())
		g.Expect(other).To(Equal(named("good")))
	}
	s.add(named("better"))
	s.accept(named("better"), nil, now)
	_, ok := s.other([]credentials.Credential{named("better")})
	g.Expect(ok).To(BeFalse(), "an accepted credential ends the succession")
}
