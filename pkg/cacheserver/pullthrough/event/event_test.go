// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package event_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
	"unsafe"

	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
)

func TestTextsAreShortenedBetweenCharacters(t *testing.T) {
	g := NewWithT(t)
	g.Expect(event.Bound("short", 5)).To(Equal("short"))
	for limit := 10; limit < 20; limit++ {
		short := event.Bound(strings.Repeat("é", 100), limit)
		g.Expect(len(short)).To(BeNumerically("<=", limit))
		g.Expect(utf8.ValidString(short)).To(BeTrue())
		g.Expect(short).To(HaveSuffix("é…"))
	}
}

func TestTextsDoNotKeepTheRequestTheyComeFrom(t *testing.T) {
	g := NewWithT(t)
	request := strings.Repeat("x", 1<<10)
	for _, limit := range []int{10, 20} {
		name := event.Bound(request[:15], limit)
		g.Expect(unsafe.StringData(name)).NotTo(BeIdenticalTo(unsafe.StringData(request)))
	}
}

func FuzzFields(f *testing.F) {
	f.Add("library/app", "v1", "new")
	f.Add("a\"\\\n\x00", "\xff\u2028", "</script>")
	f.Fuzz(func(t *testing.T, repository, reference, cause string) {
		line := append(event.Event{Repository: repository, Reference: reference, Cause: cause}.AppendFields([]byte(`{"time":0`), "x"), '}')
		fields := map[string]any{}
		if err := json.Unmarshal(line, &fields); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if strings.ContainsFunc(string(line), func(r rune) bool { return r < ' ' }) {
			t.Errorf("control characters in %q", line)
		}
		for name, text := range map[string]string{"repository": repository, "reference": reference, "cause": cause} {
			if utf8.ValidString(text) && fields[name] != text {
				t.Errorf("%s is %q instead of %q", name, fields[name], text)
			}
		}
	})
}
