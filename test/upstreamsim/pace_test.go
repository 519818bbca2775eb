// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstreamsim

import (
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"
)

func TestConnectionsShareTheLine(t *testing.T) {
	const mib = 1 << 20
	for _, connections := range []int{1, 2, 16} {
		synctest.Test(t, func(t *testing.T) {
			g := NewWithT(t)
			l := &line{bytesPerSecond: 8 * mib}
			begin := time.Now()
			var group sync.WaitGroup
			for range connections {
				group.Go(func() {
					g.Expect(l.send(t.Context(), httptest.NewRecorder(), make([]byte, 2*mib/connections), func(int) {})).To(Succeed())
				})
			}
			group.Wait()
			g.Expect(time.Since(begin)).To(BeNumerically("~", 250*time.Millisecond, slack))
		})
	}
}
