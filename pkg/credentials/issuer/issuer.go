// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package issuer

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/upstream"
)

// Issuer issues a credential.
type Issuer interface {
	// Issue returns a new credential with the time at which it expires, by the local clock.
	Issue(ctx context.Context) (credentials.Credential, time.Time, error)
}

// New returns the issuer of credentials for the registry at a host without a port. The client connects to the services
// of the cloud.
func New(material credentials.Material, host string, client *http.Client) (Issuer, error) {
	client = withoutRedirects(client)
	switch identity := material.WorkloadIdentity; {
	case material.AWS != credentials.AWSKeys{}:
		return newAWS(accessKey{keys: material.AWS}, host, client)
	case identity.Provider == credentials.ProviderAWS:
		config, err := identity.AWS()
		if err != nil {
			return nil, err
		}
		return newAWS(webIdentity{roleARN: config.RoleARN, token: identity.Token}, host, client)
	case identity.Provider == credentials.ProviderGoogle:
		config, err := identity.Google()
		if err != nil {
			return nil, err
		}
		if !upstream.IsGoogle(host) {
			return nil, errors.New("the host is not a registry of Google Cloud")
		}
		return google{identity: config, token: identity.Token, client: client}, nil
	case identity.Provider == credentials.ProviderAzure:
		config, err := identity.Azure()
		if err != nil {
			return nil, err
		}
		entraHost, ok := upstream.ParseACR(host)
		if !ok {
			return nil, errors.New("the host is not a registry of Azure Container Registry")
		}
		return azure{identity: config, token: identity.Token, registry: host, entra: entraHost, client: client}, nil
	}
	return nil, errors.New("credentials are not issued from this form of material")
}

// withoutRedirects returns a client that follows no redirects: requests contain secrets for one host.
func withoutRedirects(client *http.Client) *http.Client {
	copied := *client
	copied.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &copied
}

// localExpiry converts the expiry by the clock of a server to the local clock, which may be wrong. It takes the time of
// the server from the Date header of the response, and trusts the local clock without one.
func localExpiry(expires, serverTime time.Time) time.Time {
	now := time.Now()
	if serverTime.IsZero() {
		return expires
	}
	return now.Add(expires.Sub(serverTime))
}
