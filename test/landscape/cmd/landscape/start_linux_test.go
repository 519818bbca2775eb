// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/test/landscape/progress"
)

func TestStartingEndsWithTheFirstFailure(t *testing.T) {
	g := NewWithT(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	output := &bytes.Buffer{}
	s := newStarting(cancel, progress.New(output))
	broken := errors.New("broken")
	failing := s.task("Fail", func(context.Context) error { return broken })
	s.task("Wait", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	s.task("Depend", func(context.Context) error { t.Error("a task ran after the failure of its dependency"); return nil }, failing)
	g.Expect(s.run(ctx)).To(BeIdenticalTo(broken))
	g.Expect(output.String()).To(MatchRegexp(`^failed  Fail \(\S+ s\)\nstopped Wait \(\S+ s\)\n$`))
}

func TestStartingReportsAPanic(t *testing.T) {
	g := NewWithT(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	s := newStarting(cancel, progress.New(&bytes.Buffer{}))
	s.task("Panic", func(context.Context) error { panic("broken") })
	g.Expect(s.run(ctx)).To(MatchError(ContainSubstring("broken")))
}
