// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"encoding/json"
	"errors"
	"math"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	// defaultRetryAfter is the pause after a rate limit without a Retry-After header.
	defaultRetryAfter = 5 * time.Second
	// maxRetryAfter bounds the pause that an upstream may request.
	maxRetryAfter = time.Hour
	// maxMediaType is the length of the longest media type of RFC 6838: two names of 127 characters and a slash.
	maxMediaType = 255
)

// parseRetryAfter parses a Retry-After header, a number of seconds or a date. The result is at least a second.
func parseRetryAfter(header string, now time.Time) time.Duration {
	header = strings.TrimSpace(header)
	wait := defaultRetryAfter
	if seconds, err := strconv.ParseInt(header, 10, 64); err == nil {
		wait = time.Duration(min(seconds, int64(maxRetryAfter/time.Second))) * time.Second
	} else if date, err := http.ParseTime(header); err == nil {
		wait = date.Sub(now)
	}
	return min(max(wait, time.Second), maxRetryAfter)
}

// contentRange is a parsed Content-Range header; size is -1 if unknown.
type contentRange struct {
	first, last, size int64
}

var errContentRange = errors.New("malformed Content-Range")

// parseContentRange parses "bytes first-last/size" or "bytes first-last/*".
func parseContentRange(header string) (contentRange, error) {
	unit, rest, ok := strings.Cut(strings.TrimSpace(header), " ")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return contentRange{}, errContentRange
	}
	span, total, ok := strings.Cut(rest, "/")
	first, last, dash := strings.Cut(span, "-")
	if !ok || !dash {
		return contentRange{}, errContentRange
	}
	r := contentRange{size: -1}
	var err error
	if r.first, err = parseSize(first); err != nil {
		return contentRange{}, err
	}
	if r.last, err = parseSize(last); err != nil {
		return contentRange{}, err
	}
	if total != "*" {
		if r.size, err = parseSize(total); err != nil {
			return contentRange{}, err
		}
	}
	if r.last < r.first || r.size >= 0 && r.last >= r.size {
		return contentRange{}, errContentRange
	}
	return r, nil
}

// parseSize parses a length. It leaves one bit, so that the sum of two lengths does not overflow.
func parseSize(s string) (int64, error) {
	if s == "" || s[0] == '+' || s[0] == '-' {
		return 0, errContentRange
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n > math.MaxInt64/2 {
		return 0, errContentRange
	}
	return n, nil
}

// parseLimit parses the leading number of a RateLimit-Limit or RateLimit-Remaining header, "100;w=21600".
func parseLimit(header string) (int64, bool) {
	number, _, _ := strings.Cut(header, ";")
	n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	return n, err == nil && n >= 0
}

// parseMediaType returns a Content-Type without its parameters, or "" if it is malformed.
func parseMediaType(header string) string {
	mediaType, _, err := mime.ParseMediaType(header)
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) || len(mediaType) > maxMediaType {
		return ""
	}
	return mediaType
}

// maxLink bounds the length of a Link header; longer ones are ignored.
const maxLink = 4 << 10

// parseNext returns the query of the next page in Link headers; nil if there is none. The rest of the link does not
// matter: all pages are requested from the URL of the first one.
func parseNext(headers []string) url.Values {
	header := strings.Join(headers, ",")
	if len(header) > maxLink {
		return nil
	}
	for _, link := range linkValue.FindAllStringSubmatch(header, -1) {
		if !nextRelation.MatchString(link[2]) {
			continue
		}
		// Without a query it would be the same page again.
		if target, err := url.Parse(link[1]); err == nil && len(target.Query()) > 0 {
			return target.Query()
		}
	}
	return nil
}

// linkValue is a target and its parameters, of RFC 8288.
var (
	linkValue    = regexp.MustCompile(`<([^>]*)>((?:[^,"]|"[^"]*")*)`)
	nextRelation = regexp.MustCompile(`(?i);\s*rel\s*=\s*"?next"?\s*(;|$)`)
)

var errorCode = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,39}$`)

// parseErrorCode returns the first code of an error response in the format of the distribution specification, or "".
func parseErrorCode(body []byte) string {
	var parsed struct {
		Errors []struct {
			Code string `json:"code"`
		} `json:"errors"`
	}
	if json.Unmarshal(body, &parsed) != nil || len(parsed.Errors) == 0 || !errorCode.MatchString(parsed.Errors[0].Code) {
		return ""
	}
	return parsed.Errors[0].Code
}

// parseETag returns a validator for If-Range, or "" for a weak one, which If-Range does not allow.
func parseETag(header string) string {
	if len(header) < 2 || len(header) > 1024 || header[0] != '"' || header[len(header)-1] != '"' {
		return ""
	}
	return header
}
