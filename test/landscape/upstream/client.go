// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Client pushes to the registries and pulls from them, as one user.
type Client struct {
	Account Account
	// CA is the PEM bundle that the registries' certificates are checked against.
	CA []byte
	// IP, if set, is where every connection goes, whatever the name in the reference resolves to.
	// It lets a process outside of a landscape, which lacks its DNS, reach the registries by name.
	IP string
	// Dial, if set, makes the connections.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// KeepAlive makes all that uses the same Options share connections.
	KeepAlive bool
}

// Push uploads an image to HOST/REPOSITORY:TAG.
func (c Client) Push(ctx context.Context, reference string, image v1.Image) error {
	ref, options, err := c.prepare(ctx, reference)
	if err != nil {
		return err
	}
	if err := remote.Write(ref, image, options...); err != nil {
		return fmt.Errorf("pushing %s: %w", reference, err)
	}
	return nil
}

// Pull downloads an image as a node would, its manifest, its configuration and each of its layers once, checks what
// came against the digests, and returns the digest of the manifest.
func (c Client) Pull(ctx context.Context, reference string) (v1.Hash, error) {
	ref, options, err := c.prepare(ctx, reference)
	if err != nil {
		return v1.Hash{}, err
	}
	image, err := remote.Image(ref, options...)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("pulling the manifest of %s: %w", reference, err)
	}
	if _, err := image.RawConfigFile(); err != nil {
		return v1.Hash{}, fmt.Errorf("pulling the configuration of %s: %w", reference, err)
	}
	layers, err := image.Layers()
	if err != nil {
		return v1.Hash{}, fmt.Errorf("reading the manifest of %s: %w", reference, err)
	}
	for _, layer := range layers {
		if err := download(layer); err != nil {
			return v1.Hash{}, fmt.Errorf("pulling a layer of %s: %w", reference, err)
		}
	}
	return image.Digest()
}

func download(layer v1.Layer) error {
	content, err := layer.Compressed()
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, content)
	return errors.Join(err, content.Close())
}

func (c Client) prepare(ctx context.Context, reference string) (name.Reference, []remote.Option, error) {
	ref, err := name.ParseReference(reference, name.StrictValidation)
	if err != nil {
		return nil, nil, fmt.Errorf("parsing the reference: %w", err)
	}
	options, err := c.Options(ctx)
	return ref, options, err
}

// Options are what go-containerregistry has to know of the client.
func (c Client) Options(ctx context.Context) ([]remote.Option, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(c.CA) {
		return nil, errors.New("the CA bundle has no certificate")
	}
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DisableKeepAlives: !c.KeepAlive,
		// All connections are to one host.
		MaxIdleConnsPerHost: 100,
	}
	if c.Dial != nil {
		transport.DialContext = c.Dial
	} else if c.IP != "" {
		transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(c.IP, port))
		}
	}
	return []remote.Option{
		remote.WithContext(ctx),
		remote.WithTransport(transport),
		remote.WithAuth(&authn.Basic{Username: c.Account.Username, Password: c.Account.Password}),
	}, nil
}
