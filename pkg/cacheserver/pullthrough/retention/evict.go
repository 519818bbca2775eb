// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package retention

import (
	"cmp"
	"fmt"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/index"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
)

const (
	// candidates is the number of objects that are chosen for eviction at a time.
	candidates = 512
	// spare is left free on a volume, a hundredth of it at most, for the index and the links.
	spare         = 64 << 20
	sparePart     = 100
	maxEvictions  = 64 // rounds of candidates
	unknownLength = 1 << 20
)

// ErrFull means that the volume has no room for an object, even after eviction.
var ErrFull = fmt.Errorf("volume is full: %w", unix.ENOSPC)

// Reservation is space for an object. One goroutine uses it; a nil Reservation is empty.
type Reservation struct {
	keeper *Keeper
	left   int64
}

// Left returns how many more bytes may be written.
func (r *Reservation) Left() int64 {
	if r == nil {
		return 0
	}
	return r.left
}

// Wrote releases the space of bytes that are written: the volume accounts for them from then on.
func (r *Reservation) Wrote(n int64) {
	if r == nil {
		return
	}
	n = min(n, r.left)
	r.left -= n
	r.keeper.reserved.Add(-n)
}

// Release releases the rest, when the object is stored or given up.
func (r *Reservation) Release() {
	if r != nil {
		r.Wrote(r.left)
	}
}

// MakeRoom is Reserve for an object that is written in one go.
func (k *Keeper) MakeRoom(size int64) (release func(), err error) {
	reservation, err := k.Reserve(size)
	return reservation.Release, err
}

// Reserve reserves space for an object of the given size in bytes, and evicts the least recently used objects for it. For
// an unknown size, -1, it reserves space for a beginning, and evicts nothing. The error may be ErrFull.
func (k *Keeper) Reserve(size int64) (*Reservation, error) {
	k.room.Lock()
	defer k.room.Unlock()
	unknown := size < 0
	if unknown {
		size = unknownLength
	}
	// In this order, bytes written between the two reads count twice instead of never.
	need := size + k.reserved.Load()
	space, err := k.Store.Space()
	if err != nil {
		return nil, err
	}
	total, free, ours := int64(space.Total), int64(space.Free), k.Index.Total()
	missing := need + spared(space) - free
	if missing > ours {
		return nil, ErrFull // Evicting everything would not make enough room.
	}
	goal := missing
	used := total - free
	if high := int64(k.Options.High * float64(total)); used+need > high && used-ours+need <= high {
		// If others fill the volume beyond the watermark, eviction cannot get below it.
		goal = max(goal, used+need-int64(k.Options.Low*float64(total)))
	}
	if goal > 0 && unknown {
		return nil, ErrFull // It may be endless, and must not displace everything else.
	}
	if goal > 0 {
		k.evict(min(goal, ours))
		need = size + k.reserved.Load()
		if space, err = k.Store.Space(); err != nil {
			return nil, err
		}
		if int64(space.Free) < need+spared(space) {
			return nil, ErrFull
		}
	}
	k.reserved.Add(size)
	return &Reservation{keeper: k, left: size}, nil
}

// spared is the space that is left free on a volume.
func spared(space store.Space) int64 { return min(spare, int64(space.Total)/sparePart) }

// IsFull reports whether a volume is filled beyond the high watermark, or to the last spare bytes.
func (k *Keeper) IsFull(space store.Space) bool {
	used := float64(space.Total) - float64(space.Free)
	return space.Total > 0 && (used > k.Options.High*float64(space.Total) || int64(space.Free) <= spared(space))
}

// evict removes the least recently used objects until at least goal bytes are free, or nothing is left to remove.
func (k *Keeper) evict(goal int64) {
	flushing := k.Volume.Long()
	k.report(k.Index.Flush())
	flushing.Returned()
	for range maxEvictions {
		searching := k.Volume.Long()
		oldest, err := oldest(k.Index.Each)
		searching.Returned()
		if err != nil || len(oldest) == 0 {
			k.report(err)
			return
		}
		progress := false
		for _, candidate := range oldest {
			if goal <= 0 {
				return
			}
			freed, err := k.remove(candidate.digest, Evicted, candidate.record.Used)
			k.report(err)
			goal -= freed
			progress = progress || freed > 0
		}
		if !progress {
			return
		}
	}
}

// evictUnknown makes room for an index. Without one, only the time of storage is known of content; Reconcile removes the
// links later.
func (k *Keeper) evictUnknown() error {
	space, err := k.Store.Space()
	if err != nil {
		return err
	}
	oldest, err := oldest(func(visit func(digest.Digest, index.Record) error) error {
		return k.Store.WalkBlobs(func(d digest.Digest, info fs.FileInfo) error {
			return visit(d, index.Record{Size: info.Size(), Used: info.ModTime()})
		})
	})
	goal := spared(space) - int64(space.Free)
	for _, candidate := range oldest {
		if goal <= 0 {
			break
		}
		if k.Busy(candidate.digest) {
			continue
		}
		unlock := k.Store.Lock(candidate.digest)
		removing := k.removeBlob(candidate.digest, Evicted)
		unlock()
		if removing != nil {
			return removing
		}
		goal -= candidate.record.Size
		k.count(candidate.record, Evicted)
	}
	return err
}

type candidate struct {
	digest digest.Digest
	record index.Record
}

// oldest returns the least recently used objects, in order. An image comes before the objects that it needs.
func oldest(each func(visit func(digest.Digest, index.Record) error) error) ([]candidate, error) {
	order := func(a, b candidate) int {
		if c := a.record.Used.Compare(b.record.Used); c != 0 {
			return c
		}
		if a.record.Manifest != b.record.Manifest {
			if a.record.Manifest {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.digest, b.digest)
	}
	found := make([]candidate, 0, 2*candidates)
	err := each(func(d digest.Digest, record index.Record) error {
		if found = append(found, candidate{d, record}); len(found) == cap(found) {
			slices.SortFunc(found, order)
			found = found[:candidates]
		}
		return nil
	})
	slices.SortFunc(found, order)
	return found[:min(len(found), candidates)], err
}
