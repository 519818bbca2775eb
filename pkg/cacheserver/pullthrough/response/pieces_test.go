// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package response

import (
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/route"
)

func TestPartsOfAPieceShareItsTime(t *testing.T) {
	g := NewWithT(t)
	w := &Writer{}
	w.took(pieceBytes/2, time.Second)
	w.took(1, time.Second)
	g.Expect(w.spent).To(Equal(2 * time.Second))
	w.took(pieceBytes/2, time.Second)
	g.Expect(w.spent).To(BeZero(), "the next piece")
}

func TestANilWriterServes(*testing.T) {
	var w *Writer
	w.Requested(route.Route{Kind: route.Blob})
	w.Note(event.Miss, "")
	w.NoteUnstored(true)
	w.NoteDigest("")
	_ = w.Fetched()
	w.Expect(1 << 20)
	w.relax()
	w.took(1, time.Second)
	_ = w.Client()
}
