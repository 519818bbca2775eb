// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"
)

// Kind is how a repository refers to an object.
type Kind byte

const (
	// Layer is content: a layer, a configuration, or any other blob.
	Layer Kind = 'l'
	// Manifest is an image manifest or an index.
	Manifest Kind = 'm'
)

// Link is a repository's reference to an object.
type Link struct {
	Kind       Kind
	Repository string
	// MediaType is the media type with which the upstream sent a manifest of the repository. It belongs to the link:
	// content that does not name its type can have another one in another repository.
	MediaType string
	// Proof means that the upstream sent a manifest with the type that the manifest names, and so knows what it needs.
	// A manifest that another server stored, or that was stored before the index was lost, is no proof: its media type
	// at that time is unknown. Without a proof, each blob that the repository has not served yet costs one request to
	// the upstream. Blobs that were served need none, since both Distribution's proxy and this engine link them.
	Proof bool
	// Owned means that the upstream has shown a manifest as part of the repository to a client of the repository, or
	// that all clients may read the same. It is unknown of a manifest that was stored before the index was lost.
	Owned bool
}

// flagProof is a flag in the first byte of a link's value, which is followed by the media type.
const (
	flagProof = 1 << iota
	flagOwned
)

// AddLink records a repository's reference to an object.
func (x *Index) AddLink(d digest.Digest, link Link) error {
	return x.update(func(tx *bolt.Tx) error { return putLink(tx, d, link) })
}

// putLink keeps an existing media type and proof if the link has none.
func putLink(tx *bolt.Tx, d digest.Digest, link Link) error {
	links, k := tx.Bucket(bucketLinks), linkKey(d, link)
	if link.MediaType == "" {
		if links.Get(k) != nil {
			return nil
		}
		return links.Put(k, nil)
	}
	var flags byte
	if link.Proof {
		flags |= flagProof
	}
	if link.Owned {
		flags |= flagOwned
	}
	return links.Put(k, append([]byte{flags}, link.MediaType...))
}

// Manifest returns the link by which a repository refers to a manifest.
func (x *Index) Manifest(repository string, d digest.Digest) Link {
	link := Link{Kind: Manifest, Repository: repository}
	_ = x.view(func(tx *bolt.Tx) error {
		if value := tx.Bucket(bucketLinks).Get(linkKey(d, link)); len(value) > 1 {
			link.Proof, link.Owned, link.MediaType = value[0]&flagProof != 0, value[0]&flagOwned != 0, string(value[1:])
		}
		return nil
	})
	return link
}

// Links returns the references to an object, without media types and proofs.
func (x *Index) Links(d digest.Digest) ([]Link, error) {
	var links []Link
	err := x.view(func(tx *bolt.Tx) error {
		for _, suffix := range suffixes(tx.Bucket(bucketLinks), key(d)) {
			if len(suffix) > 1 {
				links = append(links, Link{Kind: Kind(suffix[0]), Repository: string(suffix[1:])})
			}
		}
		return nil
	})
	return links, err
}

// SetChildren records what a manifest needs.
func (x *Index) SetChildren(manifest digest.Digest, children []digest.Digest) error {
	return x.update(func(tx *bolt.Tx) error { return putChildren(tx, manifest, children) })
}

func putChildren(tx *bolt.Tx, manifest digest.Digest, children []digest.Digest) error {
	parent := key(manifest)
	for _, child := range children {
		if err := tx.Bucket(bucketChildren).Put(append(bytes.Clone(parent), key(child)...), nil); err != nil {
			return err
		}
		if err := tx.Bucket(bucketParents).Put(append(key(child), parent...), nil); err != nil {
			return err
		}
	}
	return nil
}

// Introduce combines Put, SetChildren and AddLink in one transaction, which syncs the disk once.
func (x *Index) Introduce(d digest.Digest, record Record, children []digest.Digest, link Link) error {
	record.Used = x.now()
	var before Record
	err := x.update(func(tx *bolt.Tx) error {
		before, _ = decodeRecord(tx.Bucket(bucketObjects).Get(key(d)))
		if err := tx.Bucket(bucketObjects).Put(key(d), record.encode()); err != nil {
			return err
		}
		if err := putLink(tx, d, link); err != nil {
			return err
		}
		return putChildren(tx, d, children)
	})
	if err == nil {
		x.total.Add(record.Size - before.Size)
	}
	return err
}

func linkKey(d digest.Digest, link Link) []byte {
	return append(append(key(d), byte(link.Kind)), link.Repository...)
}

// Parents visits the manifests that need an object, until visit returns false.
func (x *Index) Parents(child digest.Digest, visit func(manifest digest.Digest) bool) error {
	prefix := key(child)
	return x.view(func(tx *bolt.Tx) error {
		cursor := tx.Bucket(bucketParents).Cursor()
		for k, _ := cursor.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = cursor.Next() {
			if manifest, ok := parseKey(k[len(prefix):]); ok && !visit(manifest) {
				return nil
			}
		}
		return nil
	})
}

// Validated returns when the upstream last confirmed that a tag leads to the given manifest; zero if never.
func (x *Index) Validated(repository, tag string, d digest.Digest) time.Time {
	var at time.Time
	_ = x.view(func(tx *bolt.Tx) error {
		value := tx.Bucket(bucketTags).Get(tagKey(repository, tag))
		if len(value) > 8 && bytes.Equal(value[8:], key(d)) {
			at = fromMilliseconds(binary.BigEndian.Uint64(value))
		}
		return nil
	})
	return at
}

// SetValidated records that the upstream has just confirmed that a tag leads to a manifest.
func (x *Index) SetValidated(repository, tag string, d digest.Digest) error {
	value := binary.BigEndian.AppendUint64(nil, milliseconds(x.now()))
	return x.update(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketTags).Put(tagKey(repository, tag), append(value, key(d)...))
	})
}

// ForgetTag removes what is known of a tag.
func (x *Index) ForgetTag(repository, tag string) error {
	return x.update(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketTags).Delete(tagKey(repository, tag))
	})
}

// Referrers returns the list that SetReferrers stored.
func (x *Index) Referrers(repository string, d digest.Digest) (list []byte, ok bool) {
	_ = x.view(func(tx *bolt.Tx) error {
		list = bytes.Clone(tx.Bucket(bucketReferrers).Get(append(key(d), repository...)))
		return nil
	})
	return list, list != nil
}

// SetReferrers stores the list of referrers of a manifest in a repository, if the manifest is known. Forget removes it.
func (x *Index) SetReferrers(repository string, d digest.Digest, list []byte) error {
	if before, ok := x.Referrers(repository, d); ok && bytes.Equal(before, list) {
		return nil // The usual case does not sync the disk.
	}
	return x.update(func(tx *bolt.Tx) error {
		if tx.Bucket(bucketObjects).Get(key(d)) == nil {
			return nil
		}
		return tx.Bucket(bucketReferrers).Put(append(key(d), repository...), list)
	})
}

func tagKey(repository, tag string) []byte {
	return append(append([]byte(repository), 0), tag...)
}

// Seen is an object that was found in the store, for Add.
type Seen struct {
	Digest digest.Digest
	Record Record
}

// Add records objects that were found in the store, unless they are already known.
func (x *Index) Add(found []Seen) error {
	var added int64
	err := x.update(func(tx *bolt.Tx) error {
		added = 0
		objects := tx.Bucket(bucketObjects)
		for _, f := range found {
			if objects.Get(key(f.Digest)) != nil {
				continue
			}
			f.Record.Used = x.now()
			if err := objects.Put(key(f.Digest), f.Record.encode()); err != nil {
				return err
			}
			added += f.Record.Size
		}
		return nil
	})
	if err == nil {
		x.total.Add(added)
	}
	x.release()
	return err
}

// AddLinks is AddLink for many objects of one repository.
func (x *Index) AddLinks(link Link, objects []digest.Digest) error {
	defer x.release()
	return x.update(func(tx *bolt.Tx) error {
		for _, d := range objects {
			if err := putLink(tx, d, link); err != nil {
				return err
			}
		}
		return nil
	})
}
