// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gardener/gardener/extensions/pkg/controller/healthcheck"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
)

// patience is how long credentials may be pending until that is a fault.
const patience = 10 * time.Minute

// maxDetails is of how many caches a condition says what is wrong with them.
const maxDetails = 10

// HealthCheck turns the state of the credentials, as the provider status has
// it, into health.
type HealthCheck struct {
	Reader client.Reader
	Codec  *codec.Codec
}

var _ healthcheck.HealthCheck = (*HealthCheck)(nil)

// SetLoggerSuffix implements healthcheck.HealthCheck.
func (*HealthCheck) SetLoggerSuffix(string, string) {}

// Check implements healthcheck.HealthCheck.
func (h *HealthCheck) Check(ctx context.Context, request types.NamespacedName) (*healthcheck.SingleCheckResult, error) {
	ex := &extensionsv1alpha1.Extension{}
	if err := h.Reader.Get(ctx, request, ex); err != nil {
		return nil, fmt.Errorf("could not read the Extension: %w", err)
	}
	status, err := h.Codec.DecodeStatus(ex.Status.ProviderStatus)
	if errors.Is(err, codec.ErrMissing) {
		return &healthcheck.SingleCheckResult{Status: gardencorev1beta1.ConditionTrue}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("could not decode the provider status: %w", err)
	}
	return health(status), nil
}

// health returns the worst of all caches, and what there is to say about those that are not well.
func health(status *registry.RegistryStatus) *healthcheck.SingleCheckResult {
	result := &healthcheck.SingleCheckResult{Status: gardencorev1beta1.ConditionTrue}
	var details []string
	for _, cache := range status.Caches {
		if cache.Credentials == nil || cache.Credentials.State == registry.CredentialsActive {
			continue
		}
		details = append(details, describe(cache))
		code := gardencorev1beta1.ErrorCode("")
		switch cache.Credentials.State {
		case registry.CredentialsRejected:
			code = gardencorev1beta1.ErrorInfraUnauthorized
		case registry.CredentialsMissing:
			code = gardencorev1beta1.ErrorConfigurationProblem
		default:
			if result.Status == gardencorev1beta1.ConditionTrue {
				result.Status, result.ProgressingThreshold = gardencorev1beta1.ConditionProgressing, new(patience)
			}
			continue
		}
		result.Status, result.ProgressingThreshold = gardencorev1beta1.ConditionFalse, nil
		if !slices.Contains(result.Codes, code) {
			result.Codes = append(result.Codes, code)
		}
	}
	result.Detail = summary(details)
	return result
}

// summary joins what is said about the caches. It is part of the conditions of Extension and Shoot, and both are written
// whenever it changes.
func summary(details []string) string {
	left := len(details) - maxDetails
	if left <= 0 {
		return strings.Join(details, " ")
	}
	return fmt.Sprintf("%s And %d more, see the provider status of the Extension.", strings.Join(details[:maxDetails], " "), left)
}
