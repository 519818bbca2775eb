// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cacheserver

import (
	"log"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/sirupsen/logrus"
)

// configureLogging sets up the process's logger as the configuration says. Distribution logs to no other.
func configureLogging(config configuration.Log) {
	// The parser has checked the level.
	if level, err := logrus.ParseLevel(string(config.Level)); err == nil {
		logrus.SetLevel(level)
	}
	logrus.SetReportCaller(config.ReportCaller)
	switch config.Formatter {
	case "json":
		logrus.SetFormatter(&logrus.JSONFormatter{TimestampFormat: time.RFC3339Nano, DisableHTMLEscape: true})
	case "logstash":
		logrus.SetFormatter(&logrus.JSONFormatter{
			TimestampFormat: time.RFC3339Nano,
			FieldMap:        logrus.FieldMap{logrus.FieldKeyFunc: "function"},
		})
	case "console":
		logrus.SetFormatter(consoleFormatter{})
	default:
		logrus.SetFormatter(&logrus.TextFormatter{TimestampFormat: time.RFC3339Nano})
	}
	if len(config.Fields) > 0 {
		logrus.AddHook(staticFields(config.Fields))
	}
}

// staticFields puts the fields of log.fields on each entry.
type staticFields logrus.Fields

// Levels are all.
func (staticFields) Levels() []logrus.Level { return logrus.AllLevels }

// Fire adds the fields that the entry does not have of its own.
func (f staticFields) Fire(entry *logrus.Entry) error {
	for key, value := range f {
		if _, ok := entry.Data[key]; !ok {
			entry.Data[key] = value
		}
	}
	return nil
}

// connectionLog is what the HTTP servers log about connections: handshakes that failed, handlers that panicked.
func connectionLog() *log.Logger {
	return log.New(connectionLogWriter{}, "", 0)
}

type connectionLogWriter struct{}

// Write logs one message.
func (connectionLogWriter) Write(p []byte) (int, error) {
	logrus.Warn(strings.TrimSpace(string(p)))
	return len(p), nil
}
