// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package steps runs steps that depend on each other, as many at once as the
// dependencies allow.
package steps

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// Step is one thing to do.
type Step struct {
	// Name is unique.
	Name string
	// After names the steps that must have succeeded before.
	After []string
	// Run does it.
	Run func(context.Context) error
}

// Run runs all steps. After the first failure no further step begins and the
// context of the running ones is done. A step may only depend on steps that
// stand before it, so there are no circles.
func Run(ctx context.Context, all []Step) error {
	done := map[string]chan struct{}{}
	for _, step := range all {
		for _, name := range step.After {
			if done[name] == nil {
				return fmt.Errorf("step %q comes before %q, which it depends on", step.Name, name)
			}
		}
		if done[step.Name] != nil {
			return fmt.Errorf("there are two steps called %q", step.Name)
		}
		done[step.Name] = make(chan struct{})
	}

	group, ctx := errgroup.WithContext(ctx)
	for _, step := range all {
		group.Go(func() error {
			for _, name := range step.After {
				select {
				case <-done[name]:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			if err := step.Run(ctx); err != nil {
				return err
			}
			close(done[step.Name])
			return nil
		})
	}
	return group.Wait()
}
