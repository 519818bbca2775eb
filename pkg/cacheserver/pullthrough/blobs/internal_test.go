// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package blobs

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/content"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/transfer"
	"github.com/larder-project/larder/pkg/limit"
	"github.com/larder-project/larder/test/enginefixture"
)

func TestFetchesWaitForASlotAsLongAsClientsDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewWithT(t)
		s := New(Options{MaxFetches: 1})
		defer s.sizes.Close()
		running := &fetch{Service: s}
		g.Expect(running.acquire(t.Context(), s.fetches)).To(Succeed())
		ended := make(chan error, maxWaiting)
		herd, leave := context.WithCancelCause(t.Context())
		for range maxWaiting - 1 {
			go func() { ended <- (&fetch{Service: s}).acquire(herd, s.fetches) }()
		}
		synctest.Wait()
		patient := &fetch{Service: s}
		go func() { ended <- patient.acquire(t.Context(), s.fetches) }()
		select {
		case err := <-ended:
			t.Fatalf("a fetch no longer waits: %v", err)
		case <-time.After(time.Hour): // Of the bubble's time, which passes when there is nothing else to do.
		}
		g.Expect((&fetch{Service: s}).acquire(t.Context(), s.fetches)).To(MatchError(limit.ErrBusy), "the queue is full")
		leave(context.Canceled)
		for range maxWaiting - 1 {
			g.Expect(<-ended).To(MatchError(context.Canceled))
		}
		running.release()
		g.Expect(<-ended).To(Succeed())
		patient.release()
		g.Expect(s.fetches).To(BeEmpty())
		g.Expect(s.waiting.Load()).To(BeZero())
	})
}

func TestABlobThatWasStoredSinceTheFirstLookIsNotFetchedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewWithT(t)
		registry := &enginefixture.Registry{}
		services := enginefixture.New(t, registry, nil)
		s := New(Options{
			Content: services.Content, Source: services.Source, Manifests: services.Manifests, Transfers: services.Transfers,
			MaxFetches: 1, Metrics: services.Metrics, Log: services.Log, Now: time.Now,
		})
		defer s.sizes.Close()
		k := key{"library/app", registry.Push("blob")}
		fetch := func() error {
			o, err := s.follow(t.Context(), k, s.unlessStored(k.digest, s.fetchWork(k, false)), content.Linked)
			if err != nil {
				return err
			}
			defer o.close()
			_, err = o.reader.Copy(t.Context(), io.Discard, 0, transfer.Unknown)
			return err
		}
		g.Expect(fetch()).To(Succeed())
		synctest.Wait()
		g.Expect(fetch()).To(MatchError(errStored), "as for a client that looked before the blob was stored")
		g.Expect(registry.BlobFetches()).To(Equal(1))
		o, err := s.open(t.Context(), k, false)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(o.file).NotTo(BeNil())
		o.close()
	})
}
