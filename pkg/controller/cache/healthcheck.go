// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"

	"github.com/gardener/gardener/extensions/pkg/controller/healthcheck"
	"github.com/gardener/gardener/extensions/pkg/controller/healthcheck/general"
	"k8s.io/apimachinery/pkg/types"

	"github.com/larder-project/larder/pkg/excerpt"
	"github.com/larder-project/larder/pkg/problem"
)

// managedResourceCheck checks the health of a ManagedResource. It bounds the details, which may contain text of the
// Shoot's admission webhooks and become part of conditions of the Extension and the Shoot.
type managedResourceCheck struct {
	*general.ManagedResourceHealthChecker
}

func newManagedResourceCheck(name string) managedResourceCheck {
	return managedResourceCheck{general.CheckManagedResource(name)}
}

// Check implements healthcheck.HealthCheck.
func (c managedResourceCheck) Check(ctx context.Context, request types.NamespacedName) (*healthcheck.SingleCheckResult, error) {
	result, err := c.ManagedResourceHealthChecker.Check(ctx, request)
	if result != nil {
		result.Detail = excerpt.Of(result.Detail, problem.MaxLength)
	}
	return result, err
}
