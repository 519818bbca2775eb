// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package issuer_test

import (
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

func TestIssuer(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "Issuer Suite")
}
