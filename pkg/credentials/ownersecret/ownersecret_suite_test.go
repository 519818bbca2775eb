// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package ownersecret_test

import (
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

func TestOwnerSecret(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "Owner Secret Suite")
}
