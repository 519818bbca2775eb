// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package pullthrough

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/coalesce"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/transfer"
)

// errBadGateway is what clients see when the upstream refuses the cache, or breaks the protocol. Distribution has no
// code for that.
var errBadGateway = errcode.Register("larder.pullthrough", errcode.ErrorDescriptor{
	Value:          "BAD_GATEWAY",
	Message:        "the upstream registry refused the cache",
	Description:    "Returned by a cache whose upstream refuses its credential or answers out of protocol.",
	HTTPStatusCode: http.StatusBadGateway,
})

// invalid is the error of an upstream whose answer breaks the protocol or a limit.
func (e *Engine) invalid(cause string) error {
	return &remote.Error{Reason: remote.Invalid, Host: e.host, Cause: cause}
}

// clientError turns the error of an upstream into what a client gets to see; notFound is for what does not exist.
func clientError(ctx context.Context, err error, notFound error) error {
	var e *remote.Error
	if !errors.As(err, &e) {
		return errcode.ErrorCodeUnavailable.WithMessage("the content could not be fetched: " + internalCause(ctx, err))
	}
	switch e.Reason {
	case remote.NotFound:
		return notFound
	case remote.Unauthorized, remote.Invalid:
		return errBadGateway.WithMessage(e.Error())
	case remote.RateLimited:
		if w, ok := ctx.Value("http.response").(http.ResponseWriter); ok {
			w.Header().Set("Retry-After", strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10))
		}
		return errcode.ErrorCodeTooManyRequests.WithMessage(e.Error())
	}
	return errcode.ErrorCodeUnavailable.WithMessage(e.Error())
}

// internalCause names an error of our own without showing paths. What it does not name it logs, once for each request that
// fails, as Distribution does.
func internalCause(ctx context.Context, err error) string {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "the request ended early"
	case errors.Is(err, errMismatch):
		return errMismatch.Error()
	case errors.Is(err, errBusy):
		return errBusy.Error()
	case errors.Is(err, transfer.ErrClosed), errors.Is(err, coalesce.ErrClosed):
		return "the cache is shutting down"
	}
	log := logrus.FieldLogger(logrus.StandardLogger())
	if r := requestOf(ctx); r != nil {
		log = r.log.WithField("path", r.path)
	}
	log.WithError(err).Error("Could not serve a request")
	return "see the log of the cache"
}

// reason names why an upstream did not deliver, for metrics.
func reason(err error) string {
	var e *remote.Error
	if !errors.As(err, &e) {
		return "internal"
	}
	return map[remote.Reason]string{
		remote.Unavailable: "unavailable", remote.NotFound: "not_found", remote.Unauthorized: "unauthorized",
		remote.RateLimited: "rate_limited", remote.Invalid: "invalid",
	}[e.Reason]
}
