// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
)

var _ = Describe("eventLog", func() {
	full := event.Event{
		Time: time.Now(), Kind: "blob", Method: "GET", Repository: "library/app", Reference: "v1", Digest: "sha256:00",
		Node: "10.0.0.1", Outcome: event.Bypassed, Status: 206, Bytes: 12, Duration: 1234567 * time.Nanosecond, Cause: event.CauseNew,
	}
	config := configuration.Log{Formatter: "json", Fields: map[string]any{
		"cluster": "example", "numbers": []int{1, 2}, "msg": "ignored", "node": "ignored", "nested": map[any]any{"a": 1},
	}}

	var out *bytes.Buffer

	BeforeEach(func() {
		out = &bytes.Buffer{}
		logger := logrus.StandardLogger()
		before, formatter, level := logger.Out, logger.Formatter, logger.Level
		logrus.SetOutput(out)
		DeferCleanup(func() {
			logrus.SetOutput(before)
			logrus.SetFormatter(formatter)
			logrus.SetLevel(level)
		})
	})
	parse := func(line []byte) map[string]any {
		GinkgoHelper()
		Expect(bytes.Count(line, []byte("\n"))).To(Equal(1))
		fields := map[string]any{}
		Expect(json.Unmarshal(line, &fields)).To(Succeed())
		Expect(time.Parse(time.RFC3339Nano, fields["time"].(string))).To(BeTemporally("~", time.Now(), time.Minute))
		delete(fields, "time")
		return fields
	}

	It("writes the line that logrus would write", func() {
		for _, change := range []func(*event.Event){
			func(*event.Event) {},
			func(e *event.Event) { e.Outcome, e.Duration, e.Bytes = event.Hit, 0, 0 },
			func(e *event.Event) {
				e.Repository, e.Reference = "a\"\\\n\x00\x1b\u2028\xff<é>", strings.Repeat("…", 100)
			},
		} {
			e := full
			change(&e)
			out.Reset()
			eventLog(configuration.Log{Formatter: "json"})("registry.example.com", e)
			ours := parse(out.Bytes())

			out.Reset()
			logrus.SetFormatter(formatterOf(config))
			entry := logrus.WithFields(e.Fields("registry.example.com"))
			if e.Outcome.Severe() {
				entry.Warn(event.Message)
			} else {
				entry.Info(event.Message)
			}
			Expect(ours).To(Equal(parse(out.Bytes())))
		}
	})

	It("appends the fields of the configuration that are not its own", func() {
		eventLog(config)("registry.example.com", full)
		fields := parse(out.Bytes())
		Expect(fields).To(And(
			HaveKeyWithValue("cluster", "example"), HaveKeyWithValue("numbers", HaveLen(2)), HaveKey("nested"),
			HaveKeyWithValue("msg", event.Message), HaveKeyWithValue("node", "10.0.0.1"),
		))
	})

	It("follows the level of the log", func() {
		logrus.SetLevel(logrus.WarnLevel)
		log := eventLog(config)
		log("registry.example.com", event.Event{Outcome: event.Hit})
		Expect(out.String()).To(BeEmpty())
		log("registry.example.com", event.Event{Outcome: event.Failed})
		Expect(parse(out.Bytes())).To(HaveKeyWithValue("level", "warning"))
	})

	It("leaves other formats to logrus", func() {
		for _, formatter := range []string{"", "text", "logstash", "console"} {
			Expect(eventLog(configuration.Log{Formatter: formatter})).To(BeNil())
		}
	})
})

var _ = DescribeTable("withoutRequests", func(message string, repository bool, kept bool) {
	entry := &logrus.Entry{Message: message, Level: logrus.ErrorLevel, Data: logrus.Fields{
		"go.version": "go1.26", "http.request.uri": "/v2/_catalog?token=canary", "http.request.referer": "canary",
		"http.request.useragent": "canary", "http.request.host": "canary", "http.request.id": "1",
	}}
	if repository {
		entry.Data["vars.name"] = "library/app"
	}
	line, err := withoutRequests{&logrus.JSONFormatter{}}.Format(entry)
	Expect(err).NotTo(HaveOccurred())
	Expect(line != nil).To(Equal(kept))
	Expect(string(line)).NotTo(ContainSubstring("canary"))
},
	Entry("drops completed requests", "response completed", false, false),
	Entry("drops authorized requests", "authorized request", true, false),
	Entry("drops refused logins", "error authorizing context: basic authentication challenge", true, false),
	Entry("drops failed requests for content", "response completed with error", true, false),
	Entry("drops invalid names", "error parsing reference from context: invalid", true, false),
	Entry("keeps other failed requests", "response completed with error", false, true),
	Entry("keeps other errors", "storage driver health check: gone", false, true),
)

var _ = DescribeTable("levelOf", func(message string, expected logrus.Level) {
	Expect(levelOf(message)).To(Equal(expected))
},
	Entry("of a probe of the port", "http: TLS handshake error from 10.0.0.1:5: EOF", logrus.DebugLevel),
	Entry("of the check of a node", "http: TLS handshake error from 10.0.0.1:5: client sent an HTTP request to an HTTPS server", logrus.DebugLevel),
	Entry("of a failed handshake", "http: TLS handshake error from 10.0.0.1:5: remote error: tls: bad certificate", logrus.WarnLevel),
	Entry("of a panic", "http: panic serving 10.0.0.1:5: EOF", logrus.WarnLevel),
)

var _ = Describe("docs/logs.md", func() {
	text, err := os.ReadFile("../../docs/logs.md")
	// names returns the names in the first column of the table of a section.
	names := func(section string) (names []string) {
		GinkgoHelper()
		Expect(err).NotTo(HaveOccurred())
		_, rest, found := strings.Cut(string(text), "\n## "+section+"\n")
		Expect(found).To(BeTrue(), section)
		rest, _, _ = strings.Cut(rest, "\n## ")
		for line := range strings.Lines(rest) {
			column, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
			for i, name := range strings.Split(column, "`") {
				if strings.HasPrefix(line, "| ") && i%2 == 1 {
					names = append(names, name)
				}
			}
		}
		return names
	}

	It("lists the fields of a line", func() {
		expected := slices.Collect(maps.Keys(event.Event{}.Fields("")))
		Expect(names("Fields")).To(ConsistOf(append(expected, "time", "level", "msg")))
	})

	It("lists the outcomes and causes", func() {
		var outcomes []string
		for _, outcome := range event.Outcomes() {
			outcomes = append(outcomes, string(outcome))
		}
		Expect(names("Outcomes")).To(ConsistOf(outcomes))
		Expect(names("Causes")).To(ConsistOf(
			event.CauseNew, event.CauseExpired, event.CauseEvicted, event.CauseCorrupt, event.CauseMoved, event.CauseUnproven, event.CauseList,
			event.CauseRefused, event.CauseMissing, event.CauseNotAllowed, event.CauseTooMany, event.CauseUndecided, event.CauseClientLeft, event.CauseClientSlow, event.Unvalidated("REASON"), "REASON: MESSAGE",
		))
	})
})
