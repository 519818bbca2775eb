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

// pendingThreshold is how long credentials may be pending before that is a failure.
const pendingThreshold = 10 * time.Minute

// maxDetails bounds the caches that a condition describes.
const maxDetails = 10

// HealthCheck derives health from the states of the credentials in the provider status.
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
		return nil, fmt.Errorf("read Extension: %w", err)
	}
	status, err := h.Codec.DecodeStatus(ex.Status.ProviderStatus)
	if errors.Is(err, codec.ErrMissing) {
		return &healthcheck.SingleCheckResult{Status: gardencorev1beta1.ConditionTrue}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("decode provider status: %w", err)
	}
	return health(status), nil
}

// health returns the worst health of all caches, with a description of the unhealthy ones.
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
				result.Status, result.ProgressingThreshold = gardencorev1beta1.ConditionProgressing, new(pendingThreshold)
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

// summary joins the descriptions of caches. It is part of conditions of the Extension and the Shoot, which are both
// updated whenever it changes.
func summary(details []string) string {
	left := len(details) - maxDetails
	if left <= 0 {
		return strings.Join(details, " ")
	}
	return fmt.Sprintf("%s And %d more; see the provider status of the Extension.", strings.Join(details[:maxDetails], " "), left)
}
