// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package cloudsim simulates the services that issue credentials for the registries of clouds: the security token
// service and the registry APIs of Amazon Web Services, Google's token exchange and service account credentials, and
// Microsoft Entra with the token exchange of Azure Container Registry.
//
// The services speak the protocols of the real ones over HTTPS, under their names, and verify what the real ones verify:
// signatures, clocks, and the issuer, audience and expiry of a workload identity's token. Clients reach them through a
// forward proxy, so nothing is stubbed inside a client: HTTPS_PROXY and a certificate authority are all it needs. The
// SDK of Amazon Web Services may use its own settings of endpoints instead, with [Cloud.URL].
//
// The messages of errors quote the secrets in the request, which clients must not show.
package cloudsim
