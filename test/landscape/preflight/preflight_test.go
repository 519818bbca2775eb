// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"os/exec"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

var _ = Describe("missing", func() {
	finder := func(absent ...string) func(string) (string, error) {
		return func(program string) (string, error) {
			for _, name := range absent {
				if name == program {
					return "", exec.ErrNotFound
				}
			}
			return program, nil
		}
	}

	It("is empty on a complete machine", func() {
		Expect(missing(finder())).To(BeEmpty())
	})

	It("names the packages", func() {
		absent := missing(finder("runc", "/usr/lib/cni/ptp"))
		Expect(absent).To(HaveLen(2))
		Expect(absent[0].debianName).To(Equal("runc"))
		Expect(absent[1].debianName).To(Equal("containernetworking-plugins"))
	})
})
