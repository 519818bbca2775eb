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

// Record describes one object.
type Record struct {
	// Size in bytes.
	Size int64
	// Used is when the object, or something that needs it, was last requested.
	Used time.Time
	// Verified is when the content last matched its digest; zero if it was never compared.
	Verified time.Time
	// Inode and Changed identify the state of the verified file: its inode number and the time of the last change of
	// its content or attributes, which programs cannot set.
	Inode   uint64
	Changed int64
	// Manifest marks manifests.
	Manifest bool
	// MediaType is that of a manifest, as sent by the upstream.
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

// key returns a byte for the algorithm and the raw digest. The first byte determines the length, so keys can be
// concatenated.
func key(d digest.Digest) []byte {
	code := algorithms[d.Algorithm()]
	encoded := d.Encoded()
	out := make([]byte, 1, 1+len(encoded)/2)
	out[0] = code
	out, _ = hex.AppendDecode(out, []byte(encoded))
	return out
}

// parseKey parses the key at the beginning of in.
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
