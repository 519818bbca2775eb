// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package issuer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxResponse bounds a response of a token service, in bytes. Tokens of Entra have several kilobytes.
const maxResponse = 128 << 10

// exchange is a request to a token service.
type exchange struct {
	// operation names the request in errors.
	operation string
	url       string
	// form is the body, unless json is set.
	form url.Values
	json any
	// bearer authenticates the request; empty for none.
	bearer string
}

// do sends the request and decodes the response. It returns the time of the server, which is zero if it is unknown.
func (e exchange) do(ctx context.Context, client *http.Client, response any) (time.Time, error) {
	contentType, body := "application/x-www-form-urlencoded", []byte(e.form.Encode())
	if e.json != nil {
		contentType = "application/json"
		var err error
		if body, err = json.Marshal(e.json); err != nil {
			return time.Time{}, fmt.Errorf("encode request: %w", err)
		}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return time.Time{}, fmt.Errorf("create request: %w", err)
	}
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("Accept", "application/json")
	if e.bearer != "" {
		request.Header.Set("Authorization", "Bearer "+e.bearer)
	}
	received, err := client.Do(request)
	if err != nil {
		return time.Time{}, unreachable(e.operation, err)
	}
	defer received.Body.Close()
	content, err := io.ReadAll(io.LimitReader(received.Body, maxResponse+1))
	switch {
	case err != nil:
		return time.Time{}, invalid(e.operation, fmt.Errorf("read response: %w", err))
	case received.StatusCode != http.StatusOK:
		return time.Time{}, refused(e.operation, received.StatusCode, errorCode(content), received.Header)
	case len(content) > maxResponse:
		return time.Time{}, invalid(e.operation, fmt.Errorf("the response is larger than %d bytes", maxResponse))
	case json.Unmarshal(content, response) != nil: // The error may quote a token.
		return time.Time{}, invalid(e.operation, errors.New("the response is not what the service documents"))
	}
	serverTime, _ := http.ParseTime(received.Header.Get("Date"))
	return serverTime, nil
}

// errorCode returns the code in a response with an error, in the forms of OAuth 2 (RFC 6749), of Microsoft Entra, which
// adds numbers to it, of Google's APIs and of registries.
func errorCode(content []byte) string {
	var body struct {
		Error  json.RawMessage `json:"error"`
		Codes  []int           `json:"error_codes"`
		Errors []struct {
			Code string `json:"code"`
		} `json:"errors"`
	}
	if json.Unmarshal(content, &body) != nil {
		return ""
	}
	var code string
	var google struct {
		Status string `json:"status"`
	}
	switch {
	case json.Unmarshal(body.Error, &code) == nil:
		if len(body.Codes) > 0 {
			code += " AADSTS" + strconv.Itoa(body.Codes[0])
		}
	case json.Unmarshal(body.Error, &google) == nil:
		code = google.Status
	case len(body.Errors) > 0:
		code = body.Errors[0].Code
	}
	return code
}

// parseRetryAfter returns the delay in a Retry-After header, 0 without a valid one.
func parseRetryAfter(header http.Header) time.Duration {
	value := strings.TrimSpace(header.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}
