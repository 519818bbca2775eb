// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"io"
	"testing"
	"testing/synctest"

	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/transfer"
)

func TestBlobsThatWereStoredSinceTheyWereLookedForAreNotFetchedAgain(t *testing.T) {
	inBubble(t, func(*Options) {}, func(b bubble) {
		const repository = "library/app"
		d := b.upstream.push("blob")
		fetch := func() error {
			c, err := b.engine.fetched(b.t.Context(), repository, d, b.engine.unlessStored(d, b.engine.download(repository, d)), true)
			if err != nil {
				return err
			}
			_, err = c.reader.Copy(b.t.Context(), io.Discard, 0, transfer.Unknown)
			b.Expect(c.Close()).To(Succeed())
			return err
		}
		b.Expect(fetch()).To(Succeed())
		synctest.Wait()
		b.Expect(fetch()).To(MatchError(errStored), "as of a client that looked for it before it was stored")
		b.Expect(b.upstream.fetches.Load()).To(BeEquivalentTo(1))

		c, err := b.engine.openBlob(b.t.Context(), repository, d, false)
		b.Expect(err).NotTo(HaveOccurred())
		b.Expect(c.file).NotTo(BeNil())
		b.Expect(c.Close()).To(Succeed())
	})
}
