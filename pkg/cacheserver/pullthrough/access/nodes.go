// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// maxNodes bounds the certificates whose verification is remembered, and apart from these, those that failed.
	maxNodes = 8 << 10
	// maxChain bounds the certificates that a client may send.
	maxChain = 4
	// failedFor is how long a chain that failed is not verified again: that would let any client keep a processor busy
	// with one connection.
	failedFor = time.Minute
)

// nodes verifies the certificates of clients. A handshake asks for a certificate, but does not verify it, so that a
// client with a bad one gets a response with the reason. Each request is verified by itself: a connection may be older
// than the end of its certificate, and a resumed session older than the authorities.
type nodes struct {
	authorities *file[*x509.CertPool]

	mu sync.Mutex
	// pool has verified the certificates in verified, which are valid until the given time, and the chains in failed,
	// which are not verified again until then.
	pool             *x509.CertPool
	verified, failed *simplelru.LRU[[sha256.Size]byte, time.Time]
}

func newNodes(authorities *file[*x509.CertPool]) *nodes {
	n := &nodes{authorities: authorities}
	// NewLRU fails for sizes below 1 only.
	n.verified, _ = simplelru.NewLRU[[sha256.Size]byte, time.Time](maxNodes, nil)
	n.failed, _ = simplelru.NewLRU[[sha256.Size]byte, time.Time](maxNodes, nil)
	return n
}

// admits reports whether a connection is that of a client with a certificate of the authorities.
func (n *nodes) admits(state *tls.ConnectionState, now time.Time) bool {
	if state == nil || len(state.PeerCertificates) == 0 || len(state.PeerCertificates) > maxChain {
		return false
	}
	leaf, pool := state.PeerCertificates[0], n.authorities.get()
	sum, whole := sha256.Sum256(leaf.Raw), sumOf(state.PeerCertificates)
	if admitted, known := n.remembers(sum, whole, pool, leaf, now); known {
		return admitted
	}
	intermediates := x509.NewCertPool()
	for _, certificate := range state.PeerCertificates[1:] {
		intermediates.AddCert(certificate)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: pool, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		if !now.Before(leaf.NotBefore) { // The clocks may differ.
			n.remember(n.failed, whole, pool, now.Add(failedFor))
		}
		return false
	}
	n.remember(n.verified, sum, pool, validUntil(chains))
	return true
}

// sumOf returns the hash of a chain.
func sumOf(chain []*x509.Certificate) (sum [sha256.Size]byte) {
	whole := sha256.New()
	for _, certificate := range chain {
		one := sha256.Sum256(certificate.Raw)
		whole.Write(one[:])
	}
	whole.Sum(sum[:0])
	return sum
}

// validUntil returns when the last of the chains ends.
func validUntil(chains [][]*x509.Certificate) (latest time.Time) {
	for _, chain := range chains {
		ends := chain[0].NotAfter
		for _, certificate := range chain {
			if certificate.NotAfter.Before(ends) {
				ends = certificate.NotAfter
			}
		}
		if ends.After(latest) {
			latest = ends
		}
	}
	return latest
}

// remembers returns what is known of a leaf, by its hash, and of its chain.
func (n *nodes) remembers(sum, whole [sha256.Size]byte, pool *x509.CertPool, leaf *x509.Certificate, now time.Time) (admitted, known bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pool != pool {
		n.pool = pool
		n.verified.Purge()
		n.failed.Purge()
		return false, false
	}
	if until, ok := n.verified.Get(sum); ok && !now.After(until) && !now.Before(leaf.NotBefore) {
		return true, true
	}
	until, ok := n.failed.Get(whole)
	return false, ok && now.Before(until)
}

func (n *nodes) remember(in *simplelru.LRU[[sha256.Size]byte, time.Time], sum [sha256.Size]byte, pool *x509.CertPool, until time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pool == pool { // The authorities may have changed meanwhile.
		in.Add(sum, until)
	}
}

// parseBundle returns the authorities in a file of PEM certificates. Any other content makes the file unusable, so that
// a damaged file does not drop authorities.
func parseBundle(content []byte) (*x509.CertPool, error) {
	pool, found := x509.NewCertPool(), false
	for {
		block, rest := pem.Decode(content)
		if block == nil {
			break
		}
		content = rest
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil || block.Type != "CERTIFICATE" {
			return nil, errors.New("has something other than certificates")
		}
		pool.AddCert(certificate)
		found = true
	}
	if !found {
		return nil, errors.New("has no certificate")
	}
	return pool, nil
}
