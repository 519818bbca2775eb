// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package problem classifies the errors of Extensions by Gardener's error codes, and bounds them: they may contain text
// that the owner of a Shoot controls.
package problem

import (
	"errors"
	"slices"

	v1beta1helper "github.com/gardener/gardener/pkg/api/core/v1beta1/helper"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"

	"github.com/larder-project/larder/pkg/excerpt"
)

const (
	// MaxError bounds the error of an Extension in bytes.
	MaxError = 16 << 10
	// MaxLength bounds one problem in it in bytes.
	MaxLength = 1 << 10
	// MaxNote is the length in bytes of the longest note of an event that the API server allows.
	MaxNote = 1 << 10
)

// Configuration returns an error that persists until the owner changes the Shoot. With it, gardenlet marks the Shoot as
// failed and does not retry.
func Configuration(err error) error {
	return v1beta1helper.NewErrorWithCodes(err, gardencorev1beta1.ErrorConfigurationProblem)
}

// Retryable returns an error whose cause is outside the Shoot, so that it is retried.
func Retryable(err error) error {
	return v1beta1helper.NewErrorWithCodes(err, gardencorev1beta1.ErrorRetryableConfigurationProblem)
}

// Join returns one error for all problems, with all their codes: Gardener evaluates the codes of one error only.
func Join(problems []error) error {
	if len(problems) == 0 {
		return nil
	}
	var codes []gardencorev1beta1.ErrorCode
	short := make([]error, 0, len(problems))
	for _, problem := range problems {
		for _, code := range v1beta1helper.ExtractErrorCodes(problem) {
			if !slices.Contains(codes, code) {
				codes = append(codes, code)
			}
		}
		short = append(short, excerpt.Error(problem, MaxLength))
	}
	return v1beta1helper.NewErrorWithCodes(errors.Join(short...), codes...)
}
