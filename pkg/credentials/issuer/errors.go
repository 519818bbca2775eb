// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package issuer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Error is the failure of an operation of a service. It has the code of the service, but neither its message nor
// anything else from a response: services quote what they were sent.
type Error struct {
	// Operation is the operation with its service, such as "sts:AssumeRole".
	Operation string
	// Status is the HTTP status of the response, 0 without a response.
	Status int
	// Code is the service's code for the error. It may be empty.
	Code string
	// RetryAfter is how long the service asks to wait; 0 means that it does not.
	RetryAfter time.Duration

	rejected bool
	err      error
}

// Error returns the operation with the code of the service, or with the cause.
func (e *Error) Error() string {
	switch {
	case e.err != nil:
		return fmt.Sprintf("%s: %v", e.Operation, e.err)
	case e.Code != "":
		return fmt.Sprintf("%s: %s (status %d)", e.Operation, e.Code, e.Status)
	}
	return fmt.Sprintf("%s: unexpected response with status %d", e.Operation, e.Status)
}

func (e *Error) Unwrap() error { return e.err }

// Rejected reports whether a service refuses what the owner provides. All other errors may pass.
func Rejected(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.rejected
}

// StatusOf returns the HTTP status of the response with an error, 0 if there is none.
func StatusOf(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

func retryAfter(err error) time.Duration {
	var e *Error
	if errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}

var (
	errNoResponse   = errors.New("no valid response")
	errNoCredential = errors.New("the response contains no credential")
	errExpired      = errors.New("the issued credential has already expired")
)

// invalid returns the error for a response that is not what the service documents.
func invalid(operation string, err error) *Error { return &Error{Operation: operation, err: err} }

// unreachable returns the error for a request without a response. It drops all of an error but the network's part,
// since the rest may quote the request.
func unreachable(operation string, err error) *Error {
	var urlError *url.Error
	switch {
	case errors.Is(err, context.Canceled):
		err = context.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		err = context.DeadlineExceeded
	case errors.As(err, &urlError):
		err = short(ownWords(urlError.Err))
	default:
		err = errNoResponse
	}
	return &Error{Operation: operation, err: err}
}

// Refusal is implemented by the error for a request that a proxy refused, if its text has nothing of the response.
type Refusal interface {
	error
	RefusedByProxy()
}

// ownWords returns the part of an error that this side has worded, and otherwise [errNoResponse]: package net/http quotes
// responses that it does not understand, and a server or proxy may repeat a credential in them.
func ownWords(err error) error {
	var (
		refusal     Refusal
		network     net.Error
		certificate *tls.CertificateVerificationError
		record      tls.RecordHeaderError
		alert       tls.AlertError
	)
	switch {
	case errors.As(err, &refusal):
		return refusal
	case errors.As(err, &certificate):
		return certificate
	case errors.As(err, &record):
		return record
	case errors.As(err, &alert):
		return alert
	case errors.As(err, &network):
		return network
	}
	return errNoResponse
}

// maxReason bounds the text of an error of the network, in bytes: that of a certificate lists all its names.
const maxReason = 256

func short(err error) error {
	if text := err.Error(); len(text) > maxReason {
		return errors.New(strings.ToValidUTF8(text[:maxReason], "") + "...")
	}
	return err
}

// refused returns the error for a response with an error. A response without a code may come from a proxy, so it is not
// a rejection.
func refused(operation string, status int, code string, header http.Header) *Error {
	code = cleanCode(code)
	temporary := status == http.StatusRequestTimeout || status == http.StatusTooManyRequests ||
		status == http.StatusProxyAuthRequired || status < 400 || status >= 500
	return &Error{
		Operation: operation, Status: status, Code: code, RetryAfter: parseRetryAfter(header), rejected: code != "" && !temporary,
	}
}

// maxCode bounds a code, which is shown to owners.
const maxCode = 64

var notInCode = regexp.MustCompile(`[^A-Za-z0-9_. -]`)

// cleanCode returns a code without characters that codes do not have, so that no service can put more into an error.
func cleanCode(code string) string {
	if len(code) > maxCode || notInCode.MatchString(code) {
		return ""
	}
	return strings.TrimSpace(code)
}
