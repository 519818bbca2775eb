// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"testing"

	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/credentials"
)

func TestSessionsOfTwoAlternatingCredentialsStay(t *testing.T) {
	g := NewWithT(t)
	opened := 0
	s := &sessions{byScope: newLRU[string, []*session](2), open: func(scope string, c credentials.Credential) *session {
		opened++
		return &session{scope: scope, credential: c}
	}}
	first, second, third := credentials.Credential{Username: "1"}, credentials.Credential{Username: "2"}, credentials.Credential{Username: "3"}
	a, b := s.get("team", first), s.get("team", second)
	for range 3 {
		g.Expect(s.get("team", first)).To(BeIdenticalTo(a))
		g.Expect(s.get("team", second)).To(BeIdenticalTo(b))
	}
	g.Expect(opened).To(Equal(2))

	s.get("team", third)
	g.Expect(s.get("team", second)).To(BeIdenticalTo(b))
	g.Expect(s.get("team", first)).NotTo(BeIdenticalTo(a), "only the two latest stay")

	s.retain([]credentials.Credential{second})
	g.Expect(s.get("team", second)).To(BeIdenticalTo(b))
	opened = 0
	s.get("team", first)
	g.Expect(opened).To(Equal(1))
}
