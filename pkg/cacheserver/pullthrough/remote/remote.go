// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package remote talks to one registry on behalf of the cache.
//
// Registries follow the specifications loosely, so the client is strict in what it sends and generous in what it takes:
// state that it keeps, such as a token, is dropped at the first sign that it has ended; a refusal of something optional (HEAD,
// a range, a coding) is not taken for one of the object; content is judged by its digest, whatever headers say of it.
//
// Authentication is done for each single request, by its destination (see authenticator). The client libraries at hand know
// the first challenge of an answer with status 401 and nothing else that registries do. Every request leaves by way of
// guard, which decides once more where an Authorization header may go.
//
// What the upstream says is data from a stranger. Everything that is read is bounded, checked and fuzzed; no waiting is
// without a limit; an Error tells callers what to do about it and never quotes a header, a URL or a secret.
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
	// Resolve returns the digest that a tag leads to, or "" if the upstream does not tell without a full answer.
	Resolve(ctx context.Context, repository, tag string) (digest.Digest, error)
	// FetchManifest returns the manifest of a tag or digest. Its digest is that of its content.
	FetchManifest(ctx context.Context, repository, reference string) (Manifest, error)
	// StatBlob returns the size of a blob, or -1 if the upstream does not tell.
	StatBlob(ctx context.Context, repository string, d digest.Digest) (int64, error)
	// FetchBlob begins to read a blob at an offset. Nothing of it has been verified.
	FetchBlob(ctx context.Context, repository string, d digest.Digest, from Position) (*Blob, error)
	// List returns a document below a repository, such as its tags or referrers, unread.
	List(ctx context.Context, repository, path string, query url.Values) (Document, error)
	// Healthy reports whether the upstream has answered lately. If not, whoever has another answer should not wait.
	Healthy() bool
	// Probe reports, now and then to one caller, that it should find out whether an upstream that is not healthy has come
	// back, by any request.
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
	// ETag of the answer that is resumed; may be empty.
	ETag string
	// Size of the whole blob, as far as it is known; 0 or less if it is not.
	Size int64
}

// Blob is the body of a blob on its way. Body fails when nothing arrives for too long, or too little.
type Blob struct {
	Body io.ReadCloser
	// Offset is where Body begins: the position asked for, or 0 if the upstream does not do ranges.
	Offset int64
	// Size of the whole blob, or -1 if the upstream does not tell.
	Size int64
	ETag string
	// Page says that the upstream calls it a web page.
	Page bool
}

// Document is one page of a list.
type Document struct {
	Content []byte
	// Next is the query that asks for the next page; nil if this is the last.
	Next url.Values
}

// Credentials tells what to authenticate with.
type Credentials interface {
	// For returns the credential for a repository; the zero value means anonymous access. The scope names those
	// repositories that share it. An error means that there should be a credential, but it cannot be told.
	For(ctx context.Context, repository string) (scope string, c credentials.Credential, err error)
}

// Renewer is implemented by Credentials that can be asked for a credential in place of one that the upstream refused.
type Renewer interface {
	// Renew returns another credential, if there is one by now.
	Renew(ctx context.Context, refused credentials.Credential) (renewed credentials.Credential, ok bool)
}
