// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package remote is the client of one upstream registry.
//
// Registries follow the specifications loosely, so the client is strict in what it sends and lenient in what it
// accepts: state such as a token is dropped at the first sign that it has expired; the refusal of an option (HEAD, a
// range, a coding) is not a refusal of the object; content is verified with its digest, whatever the headers say.
//
// The client presents the credential that its Credentials hand out for each request, and keeps the tokens of one
// credential for each scope. It does not decide which credential is active; package keyring does.
//
// Requests are authenticated one by one, by destination (see authenticator): existing client libraries handle only the
// first challenge of a response with status 401. Every request passes the guard, which decides once more which servers
// may see an Authorization header.
//
// Responses of the upstream are untrusted. Everything that is read is bounded, checked and fuzzed; every wait has a
// limit; an Error says whether to try again, and never quotes a header, a URL or a secret.
package remote

import (
	"context"
	"io"
	"net/url"

	"github.com/opencontainers/go-digest"

	"github.com/larder-project/larder/pkg/credentials"
)

// Registry is what the cache needs of an upstream. A Client is one; a fake, another replica or a set of several
// upstreams can be others.
type Registry interface {
	// Resolve returns the digest of a tag, or "" if the upstream does not reveal it without the manifest.
	Resolve(ctx context.Context, repository, tag string) (digest.Digest, error)
	// FetchManifest returns the manifest of a tag or digest, verified with its digest.
	FetchManifest(ctx context.Context, repository, reference string) (Manifest, error)
	// StatBlob returns the size of a blob, or -1 if the upstream does not reveal it.
	StatBlob(ctx context.Context, repository string, d digest.Digest) (int64, error)
	// FetchBlob starts to read a blob at an offset. The content is not verified.
	FetchBlob(ctx context.Context, repository string, d digest.Digest, from Position) (*Blob, error)
	// List returns an unparsed document below a repository, such as its tags or referrers.
	List(ctx context.Context, repository, path string, query url.Values) (Document, error)
	// Healthy reports whether the upstream has responded recently. If not, callers with another source should not wait.
	Healthy() bool
	// Probe returns true to one caller at a time, at intervals, which should find out by any request whether an
	// unhealthy upstream has recovered.
	Probe() bool
}

// Manifest is a manifest as the upstream sent it.
type Manifest struct {
	Digest    digest.Digest
	MediaType string
	Content   []byte
}

// Position is where to resume a blob.
type Position struct {
	Offset int64
	// ETag is that of the response to resume; may be empty.
	ETag string
	// Size is that of the whole blob; 0 or less if unknown.
	Size int64
}

// Blob is the response to a request for a blob. Body fails when the upstream sends too little for too long.
type Blob struct {
	Body io.ReadCloser
	// Offset is where Body starts: the requested offset, or 0 if the upstream does not support ranges.
	Offset int64
	// Size is that of the whole blob, or -1 if unknown.
	Size int64
	ETag string
	// Page means that the content type is that of a web page.
	Page bool
}

// Document is one page of a list.
type Document struct {
	Content []byte
	// Next is the query of the next page; nil for the last page.
	Next url.Values
}

// Credentials hand out the credential of each request.
type Credentials interface {
	// For returns the credential for a repository; the zero value means anonymous access. Repositories with the same
	// scope share a credential. An error means that there is no credential; if it has a method Temporary that returns
	// true, there may be one later.
	For(ctx context.Context, repository string) (scope string, c credentials.Credential, err error)
}

// Renewer is implemented by Credentials that may have another credential for a request that was rejected.
type Renewer interface {
	// Renew returns a credential that is not among those rejected for the same request, if there is one.
	Renew(ctx context.Context, rejected []credentials.Credential) (c credentials.Credential, ok bool)
	// Accepted is called with a credential that the upstream accepts for the first time, or after it rejected others
	// for the same request.
	Accepted(c credentials.Credential, rejected []credentials.Credential)
}
