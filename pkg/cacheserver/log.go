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

// configureLogging configures logrus's standard logger, the only one that Distribution uses.
func configureLogging(config configuration.Log) {
	// Distribution's parser has validated the level.
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
	logrus.Warn(strings.TrimSpace(string(p)))
	return len(p), nil
}
