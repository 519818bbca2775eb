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
	// MediaType is what the upstream sent a manifest of the repository as. It belongs to the link, since the same content
	// may be something else in another repository, if it does not say itself what it is.
	MediaType string
	// Proof says that the upstream sent a manifest as what it says that it is, and so knows what it needs. A manifest that
	// another server stored, or that was stored before the index was lost, is no proof: nothing tells how it was sent.
	// That costs one question for each blob that its repository has not served yet, and nothing of what can be served
	// without the upstream, since what was served is linked, by Distribution's proxy as by this one.
	Proof bool
}

// flagProof is in the first byte of a link's value. The media type follows.
const flagProof = 1

// AddLink notes that a repository refers to an object.
func (x *Index) AddLink(d digest.Digest, link Link) error {
	return x.update(func(tx *bolt.Tx) error { return putLink(tx, d, link) })
}

// putLink keeps what is known of a manifest if the link tells nothing.
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
	return links.Put(k, append([]byte{flags}, link.MediaType...))
}

// Manifest returns the link by which a repository refers to a manifest.
func (x *Index) Manifest(repository string, d digest.Digest) Link {
	link := Link{Kind: Manifest, Repository: repository}
	_ = x.view(func(tx *bolt.Tx) error {
		if value := tx.Bucket(bucketLinks).Get(linkKey(d, link)); len(value) > 1 {
			link.Proof, link.MediaType = value[0]&flagProof != 0, string(value[1:])
		}
		return nil
	})
	return link
}

// Links returns the repositories that refer to an object, without what is known of manifests.
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

// SetChildren notes what a manifest needs.
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

// Introduce is Put, SetChildren and AddLink at once, and so costs one sync of the disk.
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

// Validated returns when the upstream last said that a tag leads to the given manifest; zero if never.
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

// SetValidated notes that the upstream has just said that a tag leads to a manifest.
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

// Referrers returns what SetReferrers was given.
func (x *Index) Referrers(repository string, d digest.Digest) (list []byte, ok bool) {
	_ = x.view(func(tx *bolt.Tx) error {
		list = bytes.Clone(tx.Bucket(bucketReferrers).Get(append(key(d), repository...)))
		return nil
	})
	return list, list != nil
}

// SetReferrers notes the list of what refers to a manifest in a repository, if the manifest is known, and until it is
// forgotten.
func (x *Index) SetReferrers(repository string, d digest.Digest, list []byte) error {
	if before, ok := x.Referrers(repository, d); ok && bytes.Equal(before, list) {
		return nil // The usual case costs no sync of the disk.
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

// Seen is one object found in the store, for Add.
type Seen struct {
	Digest digest.Digest
	Record Record
}

// Add notes objects that were found in the store and are not known yet.
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
