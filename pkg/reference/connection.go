// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package reference

import (
	"context"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/credentials/ownersecret"
)

// ClientCertificate returns the client certificate in the Secret that an entry of spec.resources references. The entry is
// named in clientCertificateSecretReferenceName.
func (r Reader) ClientCertificate(ctx context.Context, entry string) (ownersecret.KeyPair, error) {
	secret, err := r.Secret(ctx, registry.ClientCertificate.Path(nil).String(), entry)
	if err != nil {
		return ownersecret.KeyPair{}, err
	}
	pair, errs := ownersecret.ClientCertificate(secret, Path(entry))
	if len(errs) > 0 {
		return ownersecret.KeyPair{}, Invalid(secret.Name, entry, errs)
	}
	return pair, nil
}

// ProxyCredential returns the credential for proxies in the Secret that an entry of spec.resources references. The entry
// is named in proxy.secretReferenceName.
func (r Reader) ProxyCredential(ctx context.Context, entry string) (credentials.Credential, error) {
	secret, err := r.Secret(ctx, registry.ProxyCredential.Path(nil).String(), entry)
	if err != nil {
		return credentials.Credential{}, err
	}
	credential, errs := ownersecret.ProxyCredential(secret, Path(entry))
	if len(errs) > 0 {
		return credentials.Credential{}, Invalid(secret.Name, entry, errs)
	}
	return credential, nil
}
