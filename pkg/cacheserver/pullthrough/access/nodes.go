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
	// maxNodes bounds the certificates whose verification is remembered.
	maxNodes = 8 << 10
	// maxChain bounds the certificates that a client may send.
	maxChain = 8
)

// nodes verifies the certificates of clients. A handshake asks for a certificate, but does not verify it, so that a
// client with a bad one gets a response with the reason. Each request is verified by itself: a connection may be older
// than the end of its certificate, and a resumed session older than the authorities.
type nodes struct {
	authorities *file[*x509.CertPool]

	mu sync.Mutex
	// pool has verified the certificates in verified, which are valid until the given time.
	pool     *x509.CertPool
	verified *simplelru.LRU[[sha256.Size]byte, time.Time]
}

func newNodes(authorities *file[*x509.CertPool]) *nodes {
	verified, _ := simplelru.NewLRU[[sha256.Size]byte, time.Time](maxNodes, nil) // It fails for sizes below 1 only.
	return &nodes{authorities: authorities, verified: verified}
}

// admits reports whether a connection is that of a client with a certificate of the authorities.
func (n *nodes) admits(state *tls.ConnectionState, now time.Time) bool {
	if state == nil || len(state.PeerCertificates) == 0 || len(state.PeerCertificates) > maxChain {
		return false
	}
	leaf, pool := state.PeerCertificates[0], n.authorities.get()
	sum := sha256.Sum256(leaf.Raw)
	if n.remembers(sum, pool, leaf, now) {
		return true
	}
	intermediates := x509.NewCertPool()
	for _, certificate := range state.PeerCertificates[1:] {
		intermediates.AddCert(certificate)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: pool, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return false
	}
	n.remember(sum, pool, validUntil(chains))
	return true
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

func (n *nodes) remembers(sum [sha256.Size]byte, pool *x509.CertPool, leaf *x509.Certificate, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pool != pool {
		n.pool = pool
		n.verified.Purge()
		return false
	}
	until, ok := n.verified.Get(sum)
	return ok && !now.After(until) && !now.Before(leaf.NotBefore)
}

func (n *nodes) remember(sum [sha256.Size]byte, pool *x509.CertPool, until time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pool == pool { // The authorities may have changed meanwhile.
		n.verified.Add(sum, until)
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
