// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package index

import (
	"encoding/binary"
	"encoding/hex"
	"time"

	"github.com/opencontainers/go-digest"
)

// Record is what is known of one object.
type Record struct {
	// Size in bytes.
	Size int64
	// Used is when the object, or something that needs it, was last asked for.
	Used time.Time
	// Verified is when the content was last found to match the digest; zero if never.
	Verified time.Time
	// Inode and Changed identify the state of the file that was verified: its number and the time of its last change,
	// of content or of attributes, which no program can set back.
	Inode   uint64
	Changed int64
	// Manifest says that the object is a manifest.
	Manifest bool
	// MediaType of a manifest, as the upstream told.
	MediaType string
}

const (
	recordBytes  = 8*5 + 1
	flagManifest = 1
)

func (r Record) encode() []byte {
	out := make([]byte, 0, recordBytes+len(r.MediaType))
	out = binary.BigEndian.AppendUint64(out, uint64(r.Size))
	out = binary.BigEndian.AppendUint64(out, milliseconds(r.Used))
	out = binary.BigEndian.AppendUint64(out, milliseconds(r.Verified))
	out = binary.BigEndian.AppendUint64(out, r.Inode)
	out = binary.BigEndian.AppendUint64(out, uint64(r.Changed))
	var flags byte
	if r.Manifest {
		flags |= flagManifest
	}
	return append(append(out, flags), r.MediaType...)
}

func decodeRecord(in []byte) (Record, bool) {
	if len(in) < recordBytes {
		return Record{}, false
	}
	number := func(i int) uint64 { return binary.BigEndian.Uint64(in[i*8:]) }
	return Record{
		Size:      int64(number(0)),
		Used:      fromMilliseconds(number(1)),
		Verified:  fromMilliseconds(number(2)),
		Inode:     number(3),
		Changed:   int64(number(4)),
		Manifest:  in[recordBytes-1]&flagManifest != 0,
		MediaType: string(in[recordBytes:]),
	}, true
}

func milliseconds(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixMilli())
}

func fromMilliseconds(n uint64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(n))
}

var algorithms = map[digest.Algorithm]byte{digest.SHA256: 1, digest.SHA384: 2, digest.SHA512: 3}

// key is a byte for the algorithm and the raw digest. Its length follows from its first byte, so keys can be joined.
func key(d digest.Digest) []byte {
	code := algorithms[d.Algorithm()]
	encoded := d.Encoded()
	out := make([]byte, 1, 1+len(encoded)/2)
	out[0] = code
	out, _ = hex.AppendDecode(out, []byte(encoded))
	return out
}

// parseKey reads the key at the beginning of in.
func parseKey(in []byte) (d digest.Digest, ok bool) {
	if len(in) == 0 {
		return "", false
	}
	for algorithm, code := range algorithms {
		if size := 1 + algorithm.Size(); code == in[0] && len(in) >= size {
			return digest.NewDigestFromBytes(algorithm, in[1:size]), true
		}
	}
	return "", false
}
