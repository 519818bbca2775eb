// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/larder-project/larder/test/landscape"
)

// AccessLog is the access log of the upstream registries since it was opened.
type AccessLog struct {
	path  string
	start int64
}

// Request is a line of the access log.
type Request struct {
	Registry, Client, User, Method, Path string
	Status                               int
	Time                                 time.Time
	// Line is the complete line.
	Line string
}

// OpenAccessLog opens the log at its current end.
func OpenAccessLog(l *landscape.Landscape) (*AccessLog, error) {
	path := filepath.Join(l.LogDir(), "upstreams.log")
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	return &AccessLog{path: path, start: info.Size()}, nil
}

// Requests returns the requests whose path contains a text.
func (a *AccessLog) Requests(text string) ([]Request, error) {
	file, err := os.Open(a.path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if _, err := file.Seek(a.start, io.SeekStart); err != nil {
		return nil, err
	}
	content, err := io.ReadAll(file)
	if err != nil {
		return nil, err
	}

	var requests []Request
	for line := range strings.Lines(string(content)) {
		if request, ok := parseRequest(strings.TrimSpace(line)); ok && strings.Contains(request.Path, text) {
			requests = append(requests, request)
		}
	}
	return requests, nil
}

// attribute is a key and a value in the format of log/slog's TextHandler.
var attribute = regexp.MustCompile(`(\w+)=("(?:[^"\\]|\\.)*"|\S*)`)

func parseRequest(line string) (Request, bool) {
	values := map[string]string{}
	for _, match := range attribute.FindAllStringSubmatch(line, -1) {
		value := match[2]
		if unquoted, err := strconv.Unquote(value); err == nil {
			value = unquoted
		}
		values[match[1]] = value
	}
	at, _ := time.Parse(time.RFC3339Nano, values["time"]) // The upstreams use this format.
	status, err := strconv.Atoi(values["status"])
	return Request{
		Registry: values["registry"],
		Client:   values["client"],
		User:     values["user"],
		Method:   values["method"],
		Path:     values["path"],
		Status:   status,
		Time:     at,
		Line:     line,
	}, err == nil && values["msg"] == "request"
}
