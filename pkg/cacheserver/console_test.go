// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver

import (
	"errors"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
)

var _ = Describe("consoleFormatter", func() {
	distribution := func(more logrus.Fields) logrus.Fields {
		fields := logrus.Fields{
			"go.version": "go1.26", "http.request.id": "1", "http.request.method": "GET", "http.request.uri": "/v2/a/manifests/b?ns=c",
			"http.response.status": 404, "vars.name": "a",
		}
		for key, value := range more {
			fields[key] = value
		}
		return fields
	}

	DescribeTable("formats", func(level logrus.Level, message string, fields logrus.Fields, line string) {
		entry := &logrus.Entry{Time: time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC), Level: level, Message: message, Data: fields}
		Expect(consoleFormatter{}.Format(entry)).To(BeEquivalentTo(line))
	},
		Entry("an event", logrus.InfoLevel, "Serving", logrus.Fields{"tls": false, "address": "127.0.0.1:5000"},
			"15:04:05 Serving address=127.0.0.1:5000 tls=false\n"),
		Entry("a warning", logrus.WarnLevel, "The disk is full", nil, "15:04:05 warning: The disk is full\n"),
		Entry("an error", logrus.ErrorLevel, "A link is missing", logrus.Fields{"error": errors.New("no such file")},
			"15:04:05 error: A link is missing error=\"no such file\"\n"),
		Entry("no empty field", logrus.InfoLevel, "Accepted", logrus.Fields{"secret": ""}, "15:04:05 Accepted\n"),
		Entry("no control characters", logrus.InfoLevel, "a\x1b[2J", logrus.Fields{"b": "c\nd"}, "15:04:05 \"a\\x1b[2J\" b=\"c\\nd\"\n"),
		Entry("an event of a tag", logrus.InfoLevel, event.Message, event.Event{
			Method: "GET", Kind: "manifest", Repository: "library/app", Reference: "v1", Outcome: event.Miss, Cause: "new", Bytes: 12, Duration: 3 * time.Millisecond,
		}.Fields("example.com"), "15:04:05 GET library/app:v1: miss (new), 12 bytes in 3 ms\n"),
		Entry("an event of a digest", logrus.InfoLevel, event.Message, event.Event{
			Method: "HEAD", Kind: "blob", Repository: "library/app", Reference: "sha256:00", Outcome: event.Hit,
		}.Fields("example.com"), "15:04:05 HEAD library/app@sha256:00: hit, 0 bytes in 0 ms\n"),
		Entry("an event of a list, without control characters", logrus.WarnLevel, event.Message, event.Event{
			Method: "GET", Kind: "tags", Repository: "a\x1b[2J", Outcome: event.Stale, Cause: "unvalidated: down",
		}.Fields("example.com"), "15:04:05 warning: GET \"a\\x1b[2J\" tags: stale (unvalidated: down), 0 bytes in 0 ms\n"),
		Entry("no successful request", logrus.InfoLevel, "response completed", distribution(nil), ""),
		Entry("no warning of Distribution", logrus.WarnLevel, "Registry does not implement RepositoryRemover",
			logrus.Fields{"go.version": "go1.26"}, ""),
		Entry("a failed request", logrus.ErrorLevel, "response completed with error", distribution(logrus.Fields{"err.message": "manifest unknown"}),
			"15:04:05 error: GET /v2/a/manifests/b?ns=c returned status 404: manifest unknown\n"),
		Entry("a failed request without a message", logrus.ErrorLevel, "response completed with error", distribution(nil),
			"15:04:05 error: GET /v2/a/manifests/b?ns=c returned status 404\n"),
		Entry("another error of Distribution", logrus.ErrorLevel, "storage driver health check: gone", logrus.Fields{"go.version": "go1.26"},
			"15:04:05 error: storage driver health check: gone\n"),
	)
})
