// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package response

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/coalesce"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/limit"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/transfer"
)

// errBadGateway is for an upstream that refuses the cache or breaks the protocol. Distribution has no code for that.
var errBadGateway = errcode.Register("larder.pullthrough", errcode.ErrorDescriptor{
	Value:          "BAD_GATEWAY",
	Message:        "the upstream registry refused the cache",
	Description:    "Returned by a cache whose upstream refuses its credential or breaks the protocol.",
	HTTPStatusCode: http.StatusBadGateway,
})

// errBadRequest is for a request that no client of a registry sends.
var errBadRequest = errcode.Register("larder.pullthrough", errcode.ErrorDescriptor{
	Value:          "BAD_REQUEST",
	Message:        "the request is invalid",
	Description:    "Returned for a read request with a large or late body.",
	HTTPStatusCode: http.StatusBadRequest,
})

// Error turns an error of the engine into one for the client. It returns notFound if the upstream does not have the
// object.
func Error(ctx context.Context, err error, notFound error) error {
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
		if w := From(ctx); w != nil {
			w.Header().Set("Retry-After", strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10))
		}
		return errcode.ErrorCodeTooManyRequests.WithMessage(e.Error())
	}
	return errcode.ErrorCodeUnavailable.WithMessage(e.Error())
}

// internalCause names an internal error without showing paths. It logs all other errors, once per failed request.
func internalCause(ctx context.Context, err error) string {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "the request ended early"
	case errors.Is(err, store.ErrMismatch):
		return store.ErrMismatch.Error()
	case errors.Is(err, limit.ErrBusy):
		return limit.ErrBusy.Error()
	case errors.Is(err, transfer.ErrClosed), errors.Is(err, coalesce.ErrClosed):
		return "the cache is shutting down"
	}
	log := logrus.FieldLogger(logrus.StandardLogger())
	if w := From(ctx); w != nil {
		log = w.log.WithField("path", w.path)
	}
	log.WithError(err).Error("Failed to serve a request")
	return "see the log of the cache"
}
