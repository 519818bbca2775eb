// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package issuer issues credentials for the registries of clouds: Amazon ECR, Google Artifact Registry and Azure
// Container Registry. It exchanges what an owner provides, an access key or the token of a workload identity, for a user
// name and a password that are valid for some hours, and renews them in the background.
//
// An issuer uses only what it is given: never the credentials in the environment of the process, nor those that the
// metadata service of a cloud offers to its node. It sends secrets only to hosts that are derived from the host of the
// registry, and follows no redirects.
//
// Requests to Amazon Web Services are signed, which is what its SDK is for. The exchanges at Google and Microsoft are
// one or two forms each; their SDKs would add hundreds of packages to the cache server, and put the body of a response
// into an error.
package issuer
