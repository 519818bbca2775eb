// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package page

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/larder-project/larder/pkg/cacheserver/pullthrough/event"
	"github.com/larder-project/larder/pkg/cacheserver/status"
	"github.com/larder-project/larder/pkg/credentials"
)

// Limits of the page, of lists in entries and of texts in bytes.
const (
	maxEvents       = 50
	maxRepositories = 10
	maxName         = 160
	maxText         = 300
)

// view is the content of the page. All fields are formatted, so that the template has nothing that can fail.
type view struct {
	Upstream string
	Version  string
	Now      moment
	// Started is nil if the start of the process is unknown.
	Started  *moment
	Uptime   string
	Problems []problem

	Tiles       []tile
	Credentials []credential
	Storage     storage
	Server      []pair
	Certificate certificate

	Events []eventRow
	Tables []table

	MetricsPath string
}

// tile is one number with an explanation.
type tile struct {
	Name, Value, Note string
}

// pair is a secondary number.
type pair struct {
	Name, Value string
}

// levels are the CSS classes of states.
const (
	good    = "good"
	warning = "warning"
	bad     = "bad"
	neutral = "neutral"
)

// credential is the state of one credential.
type credential struct {
	// Secret is empty outside of a Shoot, where the credential does not come from a Secret.
	Secret, Role, State, Level, Note string
	// Since is nil if the state has no known start.
	Since *moment
}

// storage is the use of the volume.
type storage struct {
	// Known is false if the volume cannot be measured.
	Known                     bool
	Content, Other, Free, All string
	// ContentShare and OtherShare are percentages.
	ContentShare, OtherShare string
	Evicted                  string
}

// certificate is the certificate of the server.
type certificate struct {
	// Expiry is nil if the server serves plain HTTP.
	Expiry *moment
	Level  string
}

type eventRow struct {
	Time                                         moment
	Image, Full                                  string
	Kind, Outcome, Level, Cause, Bytes, Duration string
	Node                                         string
}

// table is the top of an order of the repositories.
type table struct {
	ID, Title string
	// Columns are the names of the columns after that of the repository.
	Columns [2]string
	Rows    []repositoryRow
}

type repositoryRow struct {
	Name   string
	Values []string
}

func (o Options) newView(report status.Report, f figures) view {
	now := o.Now()
	v := view{
		Upstream:    text(report.Upstream.Host, maxName),
		Version:     text(o.Version, maxName),
		Now:         at(now, now),
		Problems:    problems(now, report, f),
		Tiles:       tiles(f, report.Upstream.RateLimit),
		Credentials: credentialsOf(report.Credentials, f, now),
		Storage:     newStorage(report.Storage, f.evictedBytes),
		Certificate: newCertificate(report.Certificate, now),
		Server: []pair{
			{"Active transfers", count(f.activeTransfers)},
			{"Requests that joined a fetch", count(f.joined)},
			{"Tags served unvalidated", count(f.staleTags)},
			{"Corrupt objects dropped", count(f.corrupt)},
		},
		Events:      eventRows(o.Engine.Misses(), now),
		Tables:      tables(o.Engine.Repositories()),
		MetricsPath: o.MetricsPath,
	}
	if !f.started.IsZero() {
		v.Started, v.Uptime = new(at(f.started, now)), span(max(now.Sub(f.started), 0))
	}
	return v
}

// tiles are the numbers at the top of the page, as in status.FirstRow.
func tiles(f figures, limit *status.RateLimit) []tile {
	const unused = "no request to the upstream yet"
	latency := tile{Name: status.TitleUpstreamLatency, Value: none, Note: unused}
	if f.latencyP95 > 0 {
		latency.Value = duration(f.latencyMedian)
		latency.Note = "median; 95th percentile " + duration(f.latencyP95)
	}
	failed := tile{Name: status.TitleFailedFetches, Value: count(f.fetchErrors), Note: unused}
	if f.upstreamRequests > 0 {
		failed.Note = fmt.Sprintf("%s of %s upstream requests failed", count(f.upstreamErrors), count(f.upstreamRequests))
	}
	hits := tile{Name: status.TitleHitRatio, Value: percent(f.cached, f.served), Note: "no request yet"}
	if f.served > 0 {
		hits.Note = fmt.Sprintf("%s of %s requests", count(f.cached), count(f.served))
	}
	rateLimit := tile{Name: status.TitleRateLimit, Value: none, Note: "the upstream reports none"}
	if limit != nil {
		rateLimit.Value = count(float64(limit.Remaining))
		rateLimit.Note = fmt.Sprintf("of %s requests left", count(float64(limit.Limit)))
		if limit.Scope != "" {
			rateLimit.Note += " for " + text(limit.Scope, maxName)
		}
	}
	return []tile{
		hits,
		{Name: status.TitleBytesSaved, Value: size(f.savedBytes), Note: "of " + size(f.pushedBytes) + " served"},
		latency,
		failed,
		rateLimit,
	}
}

// credentialsOf lists the active credential, and the candidate if there is one. The report is then about the candidate,
// so the state of the active credential comes from the metrics.
func credentialsOf(report *credentials.Report, f figures, now time.Time) []credential {
	if report == nil {
		return nil
	}
	reported := credential{
		Secret: text(report.SecretName, maxName), Role: "active", Note: text(report.Message, maxText),
		State: "unknown", Level: neutral,
	}
	if state, ok := credentialStates[report.State]; ok {
		reported.State, reported.Level = state.State, state.Level
	}
	if report.UpstreamStatusCode != 0 {
		reported.State += fmt.Sprintf(" (%d)", report.UpstreamStatusCode)
	}
	if !report.Since.IsZero() {
		reported.Since = new(past(report.Since, now))
	}
	if report.PendingSecretName == "" {
		return []credential{reported}
	}
	active := credential{Secret: reported.Secret, Role: "active", State: "unknown", Level: warning}
	switch {
	case !f.credentialActiveSince.IsZero():
		active.State, active.Level, active.Since = "accepted", good, new(past(f.credentialActiveSince, now))
	case f.credentialRejected && report.State == credentials.StatePending: // The metric is about the active one then.
		active.State, active.Level = "rejected", bad
	}
	reported.Secret, reported.Role = text(report.PendingSecretName, maxName), "candidate"
	return []credential{active, reported}
}

var credentialStates = map[credentials.State]credential{
	credentials.StateActive:   {State: "accepted", Level: good},
	credentials.StatePending:  {State: "unknown", Level: warning},
	credentials.StateRejected: {State: "rejected", Level: bad},
	credentials.StateMissing:  {State: "missing", Level: bad},
}

func newStorage(reported status.Storage, evictedBytes float64) storage {
	s := storage{Content: size(float64(reported.Used)), Evicted: size(evictedBytes)}
	if reported.Size <= 0 {
		return s
	}
	all := float64(reported.Size)
	used := float64(min(max(reported.Size-reported.Free, 0), reported.Size))
	content := min(float64(reported.Used), used) // The two are not measured at the same time.
	s.Known = true
	s.All, s.Free, s.Other = size(all), size(float64(reported.Free)), size(used-content)
	s.ContentShare = fmt.Sprintf("%.1f", 100*content/all)
	s.OtherShare = fmt.Sprintf("%.1f", 100*(used-content)/all)
	return s
}

func newCertificate(c *status.Certificate, now time.Time) certificate {
	if c == nil {
		return certificate{}
	}
	level := good
	switch left := c.NotAfter.Sub(now); {
	case left <= 0:
		level = bad
	case left < status.CertificateMargin:
		level = warning
	}
	return certificate{Expiry: new(at(c.NotAfter, now)), Level: level}
}

func eventRows(events []event.Event, now time.Time) []eventRow {
	rows := make([]eventRow, 0, min(len(events), maxEvents))
	for _, e := range events[:min(len(events), maxEvents)] {
		row := eventRow{
			Time:  past(e.Time, now),
			Image: shortReference(e.Repository, e.Reference),
			Full:  text(e.Repository, maxText) + " " + text(e.Reference, maxText),
			Kind:  text(e.Method+" "+e.Kind, maxName),
			Cause: text(e.Cause, maxText),
			Bytes: none, Duration: duration(e.Duration),
			Node: text(e.Node, maxName),
		}
		if e.Bytes > 0 {
			row.Bytes = size(float64(e.Bytes))
		}
		row.Outcome, row.Level = outcome(e)
		rows = append(rows, row)
	}
	return rows
}

// outcome names an outcome, with the status of a response that has no content.
func outcome(e event.Event) (name, level string) {
	switch e.Outcome {
	case event.NotFound:
		return "not found", neutral
	case event.Failed:
		return fmt.Sprintf("failed (%d)", e.Status), bad
	case event.NotStored:
		return "not stored", warning
	case event.Stale, event.Bypassed, event.Canceled:
		return string(e.Outcome), warning
	}
	return text(string(e.Outcome), maxName), neutral
}

// tables returns the repositories in each order.
func tables(repositories []event.Repository) []table {
	served := func(r event.Repository) float64 { return float64(r.PushedBytes) }
	fetched := func(r event.Repository) float64 { return float64(r.PulledBytes) }
	requests := func(r event.Repository) string { return count(float64(r.Requests)) }
	fetches := func(r event.Repository) string { return count(float64(r.Fetches)) }
	bytes := func(by func(event.Repository) float64) func(event.Repository) string {
		return func(r event.Repository) string { return size(by(r)) }
	}
	meanTime := func(r event.Repository) string {
		return duration(time.Duration(r.MeanFetchSeconds() * float64(time.Second)))
	}
	return []table{
		{
			ID: "served", Title: status.TitleByBytesServed, Columns: [2]string{"Served", "Requests"},
			Rows: rows(repositories, served, bytes(served), requests),
		},
		{
			ID: "fetched", Title: status.TitleByBytesFetched, Columns: [2]string{"Fetched", "Fetches"},
			Rows: rows(repositories, fetched, bytes(fetched), fetches),
		},
		{
			ID: "slow", Title: status.TitleByFetchTime, Columns: [2]string{"Mean fetch", "Fetches"},
			Rows: rows(repositories, event.Repository.MeanFetchSeconds, meanTime, fetches),
		},
	}
}

// rows returns the top repositories of an order, without those that have nothing of it.
func rows(repositories []event.Repository, by func(event.Repository) float64, columns ...func(event.Repository) string) []repositoryRow {
	sorted := slices.DeleteFunc(slices.Clone(repositories), func(r event.Repository) bool { return by(r) <= 0 })
	slices.SortFunc(sorted, func(a, b event.Repository) int {
		return cmp.Or(cmp.Compare(by(b), by(a)), cmp.Compare(a.Name, b.Name))
	})
	top := make([]repositoryRow, 0, maxRepositories)
	for _, r := range sorted[:min(len(sorted), maxRepositories)] {
		row := repositoryRow{Name: text(r.Name, maxText)}
		for _, column := range columns {
			row.Values = append(row.Values, column(r))
		}
		top = append(top, row)
	}
	return top
}
