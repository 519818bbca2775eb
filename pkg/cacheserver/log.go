// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver

import (
	"encoding/json"
	"fmt"
	"log"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/sirupsen/logrus"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
)

// configureLogging configures logrus's standard logger, the only one that Distribution uses.
func configureLogging(config configuration.Log) {
	// Distribution's parser has validated the level.
	if level, err := logrus.ParseLevel(string(config.Level)); err == nil {
		logrus.SetLevel(level)
	}
	logrus.SetReportCaller(config.ReportCaller)
	logrus.SetFormatter(withoutRequests{formatterOf(config)})
	if len(config.Fields) > 0 {
		logrus.AddHook(staticFields(config.Fields))
	}
}

func formatterOf(config configuration.Log) logrus.Formatter {
	switch config.Formatter {
	case "json":
		return &logrus.JSONFormatter{TimestampFormat: time.RFC3339Nano, DisableHTMLEscape: true}
	case "logstash":
		return &logrus.JSONFormatter{
			TimestampFormat: time.RFC3339Nano,
			FieldMap:        logrus.FieldMap{logrus.FieldKeyFunc: "function"},
		}
	case "console":
		return consoleFormatter{}
	}
	return &logrus.TextFormatter{TimestampFormat: time.RFC3339Nano}
}

// withoutRequests is a formatter that drops Distribution's entries about requests: the engine logs one line for each
// request for content, and the access log has the others.
type withoutRequests struct{ logrus.Formatter }

// Format implements logrus.Formatter.
func (f withoutRequests) Format(entry *logrus.Entry) ([]byte, error) {
	if _, ok := entry.Data[fieldDistribution]; !ok {
		return f.Formatter.Format(entry)
	}
	_, ofRepository := entry.Data[fieldRepository]
	switch message := entry.Message; {
	case message == "response completed", message == "authorized request",
		strings.HasPrefix(message, "error authorizing context"),
		ofRepository && message == "response completed with error",
		ofRepository && strings.HasPrefix(message, "error parsing reference from context"):
		return nil, nil
	}
	// A query and a header may contain anything. The entry is a copy for this formatter.
	for _, field := range []string{"http.request.referer", "http.request.useragent", "http.request.host"} {
		delete(entry.Data, field)
	}
	if uri, ok := entry.Data[fieldURI].(string); ok {
		entry.Data[fieldURI], _, _ = strings.Cut(uri, "?")
	}
	return f.Formatter.Format(entry)
}

// eventLog returns what writes the lines of events as JSON, or nil for another format, in which logrus writes them.
// logrus's JSON formatter would add a quarter to the CPU time of a HEAD that is served from memory.
func eventLog(config configuration.Log) func(upstream string, e event.Event) {
	if config.Formatter != "json" || config.ReportCaller {
		return nil
	}
	static := staticJSON(config.Fields)
	buffers := sync.Pool{New: func() any { return new([]byte) }}
	return func(upstream string, e event.Event) {
		level := logrus.InfoLevel
		if e.Outcome.Severe() {
			level = logrus.WarnLevel
		}
		if !logrus.IsLevelEnabled(level) {
			return
		}
		buffer := buffers.Get().(*[]byte)
		defer buffers.Put(buffer)
		line := time.Now().AppendFormat(append((*buffer)[:0], `{"time":"`...), time.RFC3339Nano)
		line = append(line, '"')
		line = event.AppendField(line, "level", level.String())
		line = event.AppendField(line, "msg", event.Message)
		line = append(e.AppendFields(line, upstream), static...)
		line = append(line, "}\n"...)
		// One write each, so that lines of several goroutines do not mix; a file serializes writes.
		_, _ = logrus.StandardLogger().Out.Write(line)
		*buffer = line
	}
}

// staticJSON returns the fields of log.fields as they are appended to a JSON object. Those of events take precedence.
func staticJSON(fields map[string]any) (static []byte) {
	taken := event.Event{}.Fields("")
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if _, ok := taken[name]; ok || slices.Contains([]string{"time", "level", "msg"}, name) {
			continue
		}
		key, _ := json.Marshal(name) // Strings always succeed.
		value, err := json.Marshal(fields[name])
		if err != nil {
			value, _ = json.Marshal(fmt.Sprint(fields[name])) // YAML has maps whose keys are no strings.
		}
		static = append(append(append(append(static, ','), key...), ':'), value...)
	}
	return static
}

// staticFields is a hook that adds the fields of log.fields to each entry.
type staticFields logrus.Fields

// Levels implements logrus.Hook.
func (staticFields) Levels() []logrus.Level { return logrus.AllLevels }

// Fire implements logrus.Hook. It keeps the fields that the entry already has.
func (f staticFields) Fire(entry *logrus.Entry) error {
	for key, value := range f {
		if _, ok := entry.Data[key]; !ok {
			entry.Data[key] = value
		}
	}
	return nil
}

// connectionLog returns the logger with which an HTTP server reports failed handshakes and panics of handlers.
func connectionLog() *log.Logger {
	return log.New(connectionLogWriter{}, "", 0)
}

type connectionLogWriter struct{}

// Write implements io.Writer. The standard logger writes each message with a single call.
func (connectionLogWriter) Write(p []byte) (int, error) {
	message := strings.TrimSpace(string(p))
	logrus.StandardLogger().Log(levelOf(message), message)
	return len(p), nil
}

// levelOf returns the level of a message of an HTTP server. Nodes send a request without TLS every two seconds, to
// which the server responds at once if it works. A client that connects and leaves probes the port.
func levelOf(message string) logrus.Level {
	if strings.Contains(message, "TLS handshake error") &&
		(strings.HasSuffix(message, ": EOF") || strings.HasSuffix(message, ": client sent an HTTP request to an HTTPS server")) {
		return logrus.DebugLevel
	}
	return logrus.WarnLevel
}
