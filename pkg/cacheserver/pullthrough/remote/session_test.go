// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
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

	s.get("other", first)
	s.retain(setFor{scope: "team", credential: second})
	opened = 0
	s.get("other", first)
	g.Expect(opened).To(BeZero(), "a set has no say about the scopes of others")
	g.Expect(s.get("team", second)).To(BeIdenticalTo(b))
	opened = 0
	s.get("team", first)
	g.Expect(opened).To(Equal(1))
}

// setFor is a credential for one scope.
type setFor struct {
	scope      string
	credential credentials.Credential
}

func (s setFor) For(context.Context, string) (string, credentials.Credential, error) {
	return s.scope, s.credential, nil
}
func (s setFor) All() []credentials.Credential { return []credentials.Credential{s.credential} }
func (s setFor) Serves(scope string) bool      { return scope == s.scope }
