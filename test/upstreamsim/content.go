// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package upstreamsim

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// serveContent serves a manifest or a blob, with its faults.
func (r *Registry) serveContent(w http.ResponseWriter, req request, content Content) {
	data, faults := content.Data, req.faults
	header := w.Header()
	header.Set("Content-Type", content.MediaType)
	header.Set("Docker-Content-Digest", content.Descriptor().Digest.String())
	header.Set("Etag", strconv.Quote(content.Descriptor().Digest.String()))
	if faults.Corrupt {
		data = slices.Clone(data)
		data[len(data)/2] ^= 1
	}
	data = data[:len(data)-min(faults.Short, len(data))]

	status := http.StatusOK
	if !faults.NoRange {
		header.Set("Accept-Ranges", "bytes")
		start, end, err := parseRange(req.Header.Get("Range"), len(data))
		if err != nil {
			header.Set("Content-Range", fmt.Sprintf("bytes */%d", len(data)))
			fail(w, http.StatusRequestedRangeNotSatisfiable, "RANGE_INVALID", err.Error())
			return
		}
		if end-start < len(data) {
			header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, end-1, len(data)))
			data, status = data[start:end], http.StatusPartialContent
		}
	}
	header.Set("Content-Length", strconv.Itoa(len(data)+faults.Overlong))
	w.WriteHeader(status)
	if req.Method == http.MethodHead {
		return
	}
	r.counting.update(func(c *Counters) { c.Objects[req.URL.Path]++ })
	r.serveBody(w, req, data)
}

func (r *Registry) serveBody(w http.ResponseWriter, req request, data []byte) {
	faults := req.faults
	stop := len(data)
	for _, after := range []int{faults.CutAfter, faults.HangAfter} {
		if after > 0 {
			stop = min(stop, after)
		}
	}
	err := r.sendBody(w, req, data[:stop])
	if err == nil && stop == len(data) && faults.Overlong == 0 {
		return
	}
	if err == nil {
		_ = http.NewResponseController(w).Flush()
		if faults.HangAfter > 0 {
			req.hang()
		}
	}
	panic(http.ErrAbortHandler)
}

// sendBody sends a body, with the pause of the faults.
func (r *Registry) sendBody(w http.ResponseWriter, req request, data []byte) error {
	send := func(part []byte) error {
		return r.line.send(req.Context(), w, part, func(n int) {
			r.counting.update(func(c *Counters) { c.Bytes += int64(n) })
		})
	}
	if pause := req.faults.PauseAfter; pause > 0 && pause < len(data) {
		if err := send(data[:pause]); err != nil {
			return err
		}
		_ = http.NewResponseController(w).Flush()
		if !req.wait() {
			return req.Context().Err()
		}
		data = data[pause:]
	}
	return send(data)
}

// parseRange parses a Range header with a single range. Without one, it returns the whole content.
func parseRange(header string, size int) (start, end int, err error) {
	spec, ok := strings.CutPrefix(header, "bytes=")
	if !ok {
		return 0, size, nil
	}
	first, last, ok := strings.Cut(spec, "-")
	if !ok || strings.Contains(spec, ",") {
		return 0, 0, errors.New("only single ranges are served")
	}
	if first == "" {
		n, err := strconv.Atoi(last)
		return max(0, size-n), size, err
	}
	if start, err = strconv.Atoi(first); err != nil {
		return 0, 0, err
	}
	end = size
	if last != "" {
		if end, err = strconv.Atoi(last); err != nil {
			return 0, 0, err
		}
		end = min(end+1, size)
	}
	if start >= end {
		return 0, 0, fmt.Errorf("range %q starts beyond the end", spec)
	}
	return start, end, nil
}
