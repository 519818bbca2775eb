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

	"github.com/larder-project/larder/test/upstreamsim"
)

// Client pushes to and pulls from registries with go-containerregistry, as one user.
type Client struct {
	Account upstreamsim.Account
	// CA is the PEM bundle of the authorities that the client trusts.
	CA []byte
	// IP, if set, replaces the address of every host. It lets a process outside of the landscape, which lacks its DNS,
	// use the names of the registries.
	IP string
	// Dial, if set, makes the connections.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// KeepAlive shares connections among the users of the same Options.
	KeepAlive bool
}

// Push uploads an image to HOST/REPOSITORY:TAG.
func (c Client) Push(ctx context.Context, reference string, image v1.Image) error {
	ref, options, err := c.prepare(ctx, reference)
	if err != nil {
		return err
	}
	if err := remote.Write(ref, image, options...); err != nil {
		return fmt.Errorf("push %s: %w", reference, err)
	}
	return nil
}

// Pull fetches an image as a node does: its manifest, its configuration and each layer once. It verifies the digests
// and returns that of the manifest.
func (c Client) Pull(ctx context.Context, reference string) (v1.Hash, error) {
	ref, options, err := c.prepare(ctx, reference)
	if err != nil {
		return v1.Hash{}, err
	}
	image, err := remote.Image(ref, options...)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("pull manifest of %s: %w", reference, err)
	}
	if _, err := image.RawConfigFile(); err != nil {
		return v1.Hash{}, fmt.Errorf("pull configuration of %s: %w", reference, err)
	}
	layers, err := image.Layers()
	if err != nil {
		return v1.Hash{}, fmt.Errorf("read manifest of %s: %w", reference, err)
	}
	for _, layer := range layers {
		if err := read(layer); err != nil {
			return v1.Hash{}, fmt.Errorf("pull layer of %s: %w", reference, err)
		}
	}
	return image.Digest()
}

func read(layer v1.Layer) error {
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
		return nil, nil, fmt.Errorf("parse reference: %w", err)
	}
	options, err := c.Options(ctx)
	return ref, options, err
}

// Options returns the client's options for go-containerregistry.
func (c Client) Options(ctx context.Context) ([]remote.Option, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(c.CA) {
		return nil, errors.New("CA bundle has no certificate")
	}
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DisableKeepAlives: !c.KeepAlive,
		// All connections go to one host.
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
