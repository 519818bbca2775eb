// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package status has the report of a cache server about its state. The server serves it at config.StatusPath, as JSON,
// and the controller derives the health of a cache from it. It never contains a secret.
package status

import (
	"time"

	"github.com/larder-project/larder/pkg/credentials"
	"github.com/larder-project/larder/pkg/excerpt"
)

// Report is the state of a cache server.
type Report struct {
	Upstream Upstream `json:"upstream"`
	Storage  Storage  `json:"storage"`
	// Certificate is nil if the server serves plain HTTP.
	Certificate *Certificate `json:"certificate,omitempty"`
	// Credentials is nil if the upstream is used anonymously or through a credential helper.
	Credentials *credentials.Report `json:"credentials,omitempty"`
	// RepositoryCredentials are the credentials for some repositories, by the prefix of their files (see
	// credentials.Prefix).
	RepositoryCredentials map[string]credentials.Report `json:"repositoryCredentials,omitempty"`
}

// MaxSize is the maximum size of a bounded report as JSON.
const MaxSize = 16 << 10

// Limits of texts in bytes. JSON encodes a byte as up to six, so all texts together take less than MaxSize.
const (
	maxName    = 256
	maxMessage = 512
)

// Bounded returns the report with shortened texts.
func (r Report) Bounded() Report {
	r.Upstream.Host = excerpt.Line(r.Upstream.Host, maxName)
	r.Upstream.Message = excerpt.Line(r.Upstream.Message, maxMessage)
	if r.Upstream.RateLimit != nil {
		bounded := *r.Upstream.RateLimit
		bounded.Scope = excerpt.Line(bounded.Scope, maxName)
		r.Upstream.RateLimit = &bounded
	}
	if r.Credentials != nil {
		bounded := *r.Credentials
		bounded.SecretName = excerpt.Line(bounded.SecretName, maxName)
		bounded.PendingSecretName = excerpt.Line(bounded.PendingSecretName, maxName)
		bounded.State = credentials.State(excerpt.Line(string(bounded.State), maxName))
		bounded.Message = excerpt.Line(bounded.Message, maxMessage)
		r.Credentials = &bounded
	}
	return r
}

// Upstream is how the upstream responds.
type Upstream struct {
	// Host is the host of the upstream, with its port if it has one.
	Host string `json:"host"`
	// Reachable is false if the last requests got no usable response.
	Reachable bool `json:"reachable"`
	// Since is when Reachable changed last; the zero time means never.
	Since time.Time `json:"since,omitzero"`
	// Message is the cause of an unreachable upstream. It is bounded, and free of credentials and query strings.
	Message string `json:"message,omitempty"`
	// Failing is set if more than ManyFailures fetches have failed within the last FailureWindow.
	Failing bool `json:"failing"`
	// RateLimitedAt is when the upstream last rejected a request because of its rate limit; the zero time means never.
	RateLimitedAt time.Time `json:"rateLimitedAt,omitzero"`
	// RateLimit is the reported rate limit of which the smallest part remains: the upstream reports one for each credential.
	// Nil means that it reports none.
	RateLimit *RateLimit `json:"rateLimit,omitempty"`
}

// RateLimit is the limit of requests in the upstream's time window.
type RateLimit struct {
	// Scope is the path of the repositories that the credential is for, empty for all other repositories.
	Scope     string `json:"scope,omitempty"`
	Limit     int64  `json:"limit"`
	Remaining int64  `json:"remaining"`
}

// Storage is the state of the volume. All sizes are in bytes.
type Storage struct {
	// Used is the size of the cached content.
	Used int64 `json:"used"`
	// Size and Free describe the volume.
	Size int64 `json:"size"`
	Free int64 `json:"free"`
	// Full is set if the volume is filled beyond its high watermark, because eviction cannot make room.
	Full bool `json:"full"`
	// Bypassing is set if a recent fetch could not be stored for lack of space, and was only passed through. If the volume
	// is not full, the content was too large for it.
	Bypassing bool `json:"bypassing"`
	// BypassedAt is when that last happened; the zero time means never.
	BypassedAt time.Time `json:"bypassedAt,omitzero"`
	// Failing is set if a recent fetch could not be stored for another reason, such as an error of the file system, or
	// if the volume does not respond.
	Failing bool `json:"failing"`
	// FailedAt is when that last happened; the zero time means never.
	FailedAt time.Time `json:"failedAt,omitzero"`
}

// Certificate is the certificate that the server presents.
type Certificate struct {
	NotAfter time.Time `json:"notAfter"`
}
