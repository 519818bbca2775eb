// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package lru_test

import (
	"strings"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/lru"
)

func TestCacheIsBoundedByTheSizeOfItsEntries(t *testing.T) {
	g := NewWithT(t)
	c := lru.New(10, 6, func(_, value string) int { return len(value) })
	has := func(key string) bool {
		_, ok := c.Get(key)
		return ok
	}
	c.Add("a", "12345")
	c.Add("b", "12345")
	g.Expect(has("a")).To(BeTrue())
	c.Add("c", "1")
	g.Expect(has("a")).To(BeTrue())
	g.Expect(has("b")).To(BeFalse(), "it was used before a")
	c.Add("a", "1")
	c.Add("d", "123456")
	g.Expect(has("c")).To(BeTrue(), "a smaller value replaced a larger one")
	c.Add("d", strings.Repeat("x", 7))
	g.Expect(has("d")).To(BeFalse(), "the value is too large")
	c.Remove("a")
	c.Remove("a")
	c.Add("e", "123456")
	g.Expect(has("c")).To(BeTrue())
	value, ok := c.Get("e")
	g.Expect(ok).To(BeTrue())
	g.Expect(value).To(Equal("123456"))
}
