// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package credentialstate

import (
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

func TestCredentialState(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "Credential State Suite")
}
