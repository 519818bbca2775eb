// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"
)

// Get returns the record of an object.
func (x *Index) Get(d digest.Digest) (Record, bool) {
	var record Record
	var ok bool
	_ = x.view(func(tx *bolt.Tx) error {
		record, ok = decodeRecord(tx.Bucket(bucketObjects).Get(key(d)))
		return nil
	})
	if used, pending := x.pendingUse(d); ok && pending && used.After(record.Used) {
		record.Used = used
	}
	return record, ok
}

// Put stores the record of an object, with the current time as its last use.
func (x *Index) Put(d digest.Digest, record Record) error {
	record.Used = x.now()
	var before Record
	err := x.update(func(tx *bolt.Tx) error {
		objects := tx.Bucket(bucketObjects)
		before, _ = decodeRecord(objects.Get(key(d)))
		return objects.Put(key(d), record.encode())
	})
	if err == nil {
		x.total.Add(record.Size - before.Size)
	}
	return err
}

// Change modifies the record of an object, if there is one.
func (x *Index) Change(d digest.Digest, change func(*Record)) error {
	return x.update(func(tx *bolt.Tx) error {
		objects := tx.Bucket(bucketObjects)
		record, ok := decodeRecord(objects.Get(key(d)))
		if !ok {
			return nil
		}
		change(&record)
		return objects.Put(key(d), record.encode())
	})
}

// Forget removes all records of an object.
func (x *Index) Forget(d digest.Digest) error {
	x.mu.Lock()
	delete(x.pending, d)
	x.mu.Unlock()
	var before Record
	err := x.update(func(tx *bolt.Tx) error {
		before, _ = decodeRecord(tx.Bucket(bucketObjects).Get(key(d)))
		if err := tx.Bucket(bucketObjects).Delete(key(d)); err != nil {
			return err
		}
		if err := deletePrefix(tx.Bucket(bucketLinks), key(d)); err != nil {
			return err
		}
		if err := deletePrefix(tx.Bucket(bucketReferrers), key(d)); err != nil {
			return err
		}
		return deleteChildren(tx, d)
	})
	if err == nil {
		x.total.Add(-before.Size)
	}
	return err
}

func deleteChildren(tx *bolt.Tx, parent digest.Digest) error {
	children := tx.Bucket(bucketChildren)
	prefix := key(parent)
	for _, child := range suffixes(children, prefix) {
		if err := tx.Bucket(bucketParents).Delete(append(bytes.Clone(child), prefix...)); err != nil {
			return err
		}
	}
	return deletePrefix(children, prefix)
}

func deletePrefix(bucket *bolt.Bucket, prefix []byte) error {
	for _, suffix := range suffixes(bucket, prefix) {
		if err := bucket.Delete(append(bytes.Clone(prefix), suffix...)); err != nil {
			return err
		}
	}
	return nil
}

// suffixes returns the keys with a prefix, without the prefix.
func suffixes(bucket *bolt.Bucket, prefix []byte) [][]byte {
	var out [][]byte
	cursor := bucket.Cursor()
	for k, _ := cursor.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = cursor.Next() {
		out = append(out, bytes.Clone(k[len(prefix):]))
	}
	return out
}

// chunk is the number of records that Each reads in one transaction. A long transaction would prevent the reuse of
// pages.
const chunk = 1024

// Each visits all records, without pending uses. Visit may change the index.
func (x *Index) Each(visit func(d digest.Digest, record Record) error) error {
	type entry struct {
		digest digest.Digest
		record Record
	}
	var next []byte
	entries := make([]entry, 0, chunk)
	for {
		entries = entries[:0]
		err := x.view(func(tx *bolt.Tx) error {
			cursor := tx.Bucket(bucketObjects).Cursor()
			k, v := cursor.Seek(next)
			for ; k != nil && len(entries) < chunk; k, v = cursor.Next() {
				d, ok := parseKey(k)
				record, fine := decodeRecord(v)
				if ok && fine {
					entries = append(entries, entry{d, record})
				}
			}
			next = bytes.Clone(k)
			return nil
		})
		if err != nil {
			return err
		}
		x.release()
		for _, e := range entries {
			if err := visit(e.digest, e.record); err != nil {
				return err
			}
		}
		if next == nil {
			return nil
		}
	}
}

// Touch records a use of an object in memory. It only writes when many uses are pending.
func (x *Index) Touch(d digest.Digest) {
	x.mu.Lock()
	x.pending[d] = x.now()
	full := len(x.pending) >= maxPending
	x.mu.Unlock()
	if full {
		_ = x.Flush()
	}
}

func (x *Index) pendingUse(d digest.Digest) (time.Time, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	used, ok := x.pending[d]
	return used, ok
}

// Flush writes the uses that Touch has collected, of the objects and of everything that they need. Uses stay pending if
// writing fails.
func (x *Index) Flush() error {
	x.mu.Lock()
	pending := x.pending
	x.pending = map[digest.Digest]time.Time{}
	x.mu.Unlock()
	if len(pending) == 0 {
		return nil
	}
	latestFirst := slices.SortedFunc(maps.Keys(pending), func(a, b digest.Digest) int {
		return pending[b].Compare(pending[a])
	})
	err := x.update(func(tx *bolt.Tx) error {
		seen := map[string]bool{}
		for _, d := range latestFirst {
			if err := use(tx, key(d), pending[d], seen); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		x.restore(pending)
	}
	return err
}

func (x *Index) restore(uses map[digest.Digest]time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for d, used := range uses {
		if len(x.pending) >= maxPending {
			return
		}
		if later, ok := x.pending[d]; !ok || later.Before(used) {
			x.pending[d] = used
		}
	}
}

// use writes the use of an object and of everything that it needs. It does not descend into manifests that an equal or
// later use has visited: the number of paths to a manifest can be exponential.
func use(tx *bolt.Tx, object []byte, used time.Time, seen map[string]bool) error {
	objects, children := tx.Bucket(bucketObjects), tx.Bucket(bucketChildren)
	budget := maxNeeded
	for queue := [][]byte{object}; len(queue) > 0; {
		object, queue = queue[0], queue[1:]
		record, ok := decodeRecord(objects.Get(object))
		if ok && record.Used.Before(used) {
			record.Used = used
			if err := objects.Put(object, record.encode()); err != nil {
				return err
			}
		}
		if !ok || !record.Manifest || seen[string(object)] {
			continue
		}
		seen[string(object)] = true
		needed := suffixes(children, object)
		needed = needed[:min(len(needed), budget)]
		budget -= len(needed)
		queue = append(queue, needed...)
	}
	return nil
}
