// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package response

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/coalesce"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/remote"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/store"
	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/transfer"
	"github.com/larder-project/larder/pkg/limit"
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

// Error turns an error of the engine into one for the client, and records it. It returns notFound if the upstream does
// not have the object.
func Error(ctx context.Context, err error, notFound error) error {
	w := From(ctx)
	cause, expected := causeOf(err)
	if !expected {
		log := logrus.FieldLogger(logrus.StandardLogger())
		if w != nil {
			log = w.log.WithFields(logrus.Fields{"repository": w.event.Repository, "reference": w.event.Reference})
		}
		log.WithError(err).Error("Failed to serve a request")
	}
	w.fail(ctx, err)
	var e *remote.Error
	if !errors.As(err, &e) {
		return errcode.ErrorCodeUnavailable.WithMessage("the content could not be fetched: " + cause)
	}
	switch e.Reason {
	case remote.NotFound:
		return notFound
	case remote.Unauthorized, remote.Invalid:
		return errBadGateway.WithMessage(e.Error())
	case remote.RateLimited:
		if w != nil {
			w.Header().Set("Retry-After", strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10))
		}
		return errcode.ErrorCodeTooManyRequests.WithMessage(e.Error())
	}
	return errcode.ErrorCodeUnavailable.WithMessage(e.Error())
}

// causeOf describes an error without internal details, such as paths, that it may quote. Expected is false for an
// internal error, which has to be logged.
func causeOf(err error) (cause string, expected bool) {
	var e *remote.Error
	switch {
	case errors.As(err, &e):
		return e.Reason.String() + ": " + e.Cause, true
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "the request ended early", true
	case errors.Is(err, transfer.ErrClosed), errors.Is(err, coalesce.ErrClosed):
		return "the cache is shutting down", true
	}
	for _, known := range []error{store.ErrMismatch, limit.ErrBusy, transfer.ErrAbandoned, transfer.ErrStuck} {
		if errors.Is(err, known) {
			return known.Error(), true
		}
	}
	return "see the log of the cache", false
}

// fail records a request that ends with an error.
func (w *Writer) fail(ctx context.Context, err error) {
	switch {
	case remote.Is(err, remote.NotFound):
		cause, _ := causeOf(err)
		w.Note(event.NotFound, cause)
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		w.Note(event.Canceled, event.CauseClientLeft)
	default:
		cause, _ := causeOf(err)
		w.Note(event.Failed, cause)
	}
}

// incomplete records a response that broke off: because of the client, or because of the content.
func (w *Writer) incomplete(ctx context.Context, err error) {
	switch {
	case w == nil:
	case w.isCut():
		w.fail(ctx, transfer.ErrStuck)
	case errors.Is(err, transfer.ErrTooSlow), w.unreachable && errors.Is(err, os.ErrDeadlineExceeded):
		w.Note(event.Canceled, event.CauseClientSlow)
	case w.unreachable:
		w.Note(event.Canceled, event.CauseClientLeft)
	default:
		w.fail(ctx, err)
	}
}
