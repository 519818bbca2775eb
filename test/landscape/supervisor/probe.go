// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

const probeTimeout = 10 * time.Second

var prober = &http.Client{Transport: &http.Transport{
	DisableKeepAlives: true,
	// A probe only checks whether there is a response; it neither sends nor trusts any data.
	TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // #nosec G402 -- see above.
}}

// probe returns nil if the process behind the URL is ready.
func probe(ctx context.Context, target string) error {
	if target == "" {
		return nil
	}
	location, err := url.Parse(target)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()

	switch location.Scheme {
	case "http", "https":
		return probeHTTP(ctx, target)
	case "tcp":
		return probeConnection(ctx, "tcp", location.Host)
	case "unix":
		return probeConnection(ctx, "unix", location.Path)
	default:
		return fmt.Errorf("unsupported probe %s", target)
	}
}

func probeHTTP(ctx context.Context, target string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil) // #nosec G704 -- the address comes from the definition of the process.
	if err != nil {
		return err
	}
	response, err := prober.Do(request) // #nosec G704 -- see above.
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode == http.StatusOK {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, 500))
	if err != nil {
		return err
	}
	return fmt.Errorf("%s responds %s: %s", target, response.Status, body)
}

func probeConnection(ctx context.Context, network, address string) error {
	var dialer net.Dialer
	connection, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	return connection.Close()
}
