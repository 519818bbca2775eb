// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

const (
	// maxNumberLength limits the length of a number with its unit. 2^63 has 19 digits.
	maxNumberLength = 64
	// maxExponentDigits keeps comparisons cheap: a comparison of quantities writes out their digits, a billion for
	// 1e999999999.
	maxExponentDigits = 2
)

// CheckNumber reports why the text of a number, quantity or duration must not be parsed: the cost of parsing, comparing
// and printing it grows with the value, not with the text. Small exponents pass, since existing Shoots may have them;
// the validation of new values is stricter.
func CheckNumber(text string) string {
	if len(text) > maxNumberLength {
		return fmt.Sprintf("must be a number of at most %d characters, for example 10", maxNumberLength)
	}
	_, exponent, found := strings.Cut(strings.ToLower(strings.TrimSpace(text)), "e")
	exponent = strings.TrimLeft(strings.TrimLeft(exponent, "+-"), "0")
	if found && len(exponent) > maxExponentDigits {
		return "must be a number without an exponent, for example 10"
	}
	return ""
}

// CheckQuantity is [CheckNumber] for a quantity. It also checks the syntax.
func CheckQuantity(text string) string {
	if CheckNumber(text) != "" {
		return "must be a short quantity without an exponent, for example 10Gi"
	}
	if _, err := resource.ParseQuantity(strings.TrimSpace(text)); err != nil {
		return "must be a quantity, for example 10Gi"
	}
	return ""
}

// CheckDuration is [CheckNumber] for a duration. It also checks the syntax.
func CheckDuration(text string) string {
	if len(text) > maxNumberLength {
		return fmt.Sprintf("must be a duration of at most %d characters, for example 168h", maxNumberLength)
	}
	if _, err := time.ParseDuration(text); err != nil {
		return "must be a duration, for example 168h"
	}
	return ""
}

// abbreviate shortens a value for an error.
func abbreviate(text string) string {
	return cut(text, maxNumberLength)
}

func cut(text string, length int) string {
	if len(text) <= length {
		return text
	}
	return strings.ToValidUTF8(text[:length], "") + "…"
}
