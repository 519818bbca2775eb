// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package excerpt

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

func TestExcerpt(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "Excerpt Suite")
}

var _ = DescribeTable("An excerpt", func(text, expected string) {
	got := Of(text, 10)
	Expect(got).To(Equal(expected))
	Expect(len(got)).To(BeNumerically("<=", 10))
	Expect(utf8.ValidString(got)).To(BeTrue())
},
	Entry("of a short text is the text", "0123456789", "0123456789"),
	Entry("of a longer text ends with an ellipsis", "0123456789a", "0123456…"),
	Entry("does not split a character", "012345äbcd", "012345…"),
	Entry("has no invalid UTF-8", "a\xffb", "a?b"),
)

var _ = It("An excerpt on one line has no line breaks or other control characters", func() {
	Expect(Line("one\ntwo\x1b[31m", 100)).To(Equal("one two [31m"))
	Expect(Line(strings.Repeat("\n", 100), 10)).To(Equal("       …"))
})

var _ = It("A shortened error wraps the original", func() {
	cause := errors.New("cause")
	err := Error(fmt.Errorf("%s: %w", strings.Repeat("x", 100), cause), 10)
	Expect(err).To(MatchError("xxxxxxx…"))
	Expect(errors.Is(err, cause)).To(BeTrue())
	Expect(Error(cause, 10)).To(BeIdenticalTo(cause))
	Expect(Error(nil, 10)).To(Succeed())
})
