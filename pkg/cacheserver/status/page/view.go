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

	Events  []eventRow
	Largest []repositoryRow
	Slowest []repositoryRow

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
	// Known is false until the volume was measured.
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

type repositoryRow struct {
	Name, Requests, Fetches, Pushed, Pulled, FetchTime string
}

func (o Options) newView(report status.Report, f figures) view {
	now, repositories := o.Now(), o.Engine.Repositories()
	v := view{
		Upstream:    text(report.Upstream.Host, maxName),
		Version:     text(o.Version, maxName),
		Now:         at(now, now),
		Problems:    problems(now, report, f),
		Tiles:       tiles(f),
		Credentials: credentialsOf(report.Credentials, f.credentialActiveSince, now),
		Storage:     newStorage(f),
		Certificate: newCertificate(report.Certificate, now),
		Server: []pair{
			{"Active transfers", count(f.activeTransfers)},
			{"Requests that shared a fetch", count(f.coalesced)},
			{"Tags served unvalidated", count(f.staleTags)},
			{"Corrupt objects dropped", count(f.corrupt)},
		},
		Events:      eventRows(o.Engine.Misses(), now),
		Largest:     largest(repositories),
		Slowest:     slowest(repositories),
		MetricsPath: o.MetricsPath,
	}
	if !f.started.IsZero() {
		v.Started, v.Uptime = new(at(f.started, now)), span(max(now.Sub(f.started), 0))
	}
	return v
}

// tiles are the numbers at the top of the page.
func tiles(f figures) []tile {
	const unused = "no request to the upstream yet"
	latency := tile{Name: "Upstream latency", Value: none, Note: unused}
	if f.latencyP95 > 0 {
		latency.Value = duration(f.latencyMedian)
		latency.Note = "median; 95th percentile " + duration(f.latencyP95)
	}
	failed := tile{Name: "Failed fetches", Value: count(f.fetchErrors), Note: unused}
	if f.upstreamRequests > 0 {
		failed.Note = fmt.Sprintf("%s of %s upstream requests failed", count(f.upstreamErrors), count(f.upstreamRequests))
	}
	hits := tile{Name: "Hit ratio", Value: percent(f.hits, f.requests), Note: "no request yet"}
	if f.requests > 0 {
		hits.Note = fmt.Sprintf("%s of %s requests", count(f.hits), count(f.requests))
	}
	rateLimit := tile{Name: "Rate limit", Value: none, Note: "the upstream reports none"}
	if b, ok := tightest(f.budgets); ok {
		rateLimit.Value = count(b.remaining)
		rateLimit.Note = fmt.Sprintf("of %s requests left", count(b.limit))
		if b.scope != "" {
			rateLimit.Note += " for " + text(b.scope, maxName)
		}
	}
	return []tile{
		hits,
		{Name: "Bytes saved", Value: size(f.savedBytes), Note: "of " + size(f.pushedBytes) + " served"},
		latency,
		failed,
		rateLimit,
	}
}

// tightest returns the rate limit with the smallest part left.
func tightest(budgets []budget) (budget, bool) {
	if len(budgets) == 0 {
		return budget{}, false
	}
	return slices.MinFunc(budgets, func(a, b budget) int {
		return cmp.Compare(a.remaining/a.limit, b.remaining/b.limit)
	}), true
}

// credentialsOf lists the active credential, and the candidate if there is one. The report is then about the candidate,
// so the state of the active credential comes from the metrics.
func credentialsOf(report *credentials.Report, activeSince, now time.Time) []credential {
	if report == nil {
		return nil
	}
	reported := credential{
		Secret: text(report.SecretName, maxName), Role: "in use", Note: text(report.Message, maxText),
		State: "unknown", Level: neutral,
	}
	if state, ok := credentialStates[report.State]; ok {
		reported.State, reported.Level = state.State, state.Level
	}
	if report.UpstreamStatusCode != 0 {
		reported.State += fmt.Sprintf(" (%d)", report.UpstreamStatusCode)
	}
	if !report.Since.IsZero() {
		reported.Since = new(at(report.Since, now))
	}
	if report.PendingSecretName == "" {
		return []credential{reported}
	}
	active := credential{Secret: reported.Secret, Role: "in use", State: "not accepted", Level: bad}
	if !activeSince.IsZero() {
		active.State, active.Level, active.Since = "accepted", good, new(at(activeSince, now))
	}
	reported.Secret, reported.Role = text(report.PendingSecretName, maxName), "candidate"
	return []credential{active, reported}
}

var credentialStates = map[credentials.State]credential{
	credentials.StateActive:   {State: "accepted", Level: good},
	credentials.StatePending:  {State: "not checked yet", Level: warning},
	credentials.StateRejected: {State: "rejected", Level: bad},
	credentials.StateMissing:  {State: "unreadable", Level: bad},
}

func newStorage(f figures) storage {
	s := storage{Content: size(f.storageUsed), Evicted: size(f.evictedBytes)}
	if f.volumeSize <= 0 {
		return s
	}
	used := min(max(f.volumeSize-f.freeSize, 0), f.volumeSize)
	content := min(f.storageUsed, used) // The two are not measured at the same time.
	s.Known = true
	s.All, s.Free, s.Other = size(f.volumeSize), size(f.freeSize), size(used-content)
	s.ContentShare = fmt.Sprintf("%.1f", 100*content/f.volumeSize)
	s.OtherShare = fmt.Sprintf("%.1f", 100*(used-content)/f.volumeSize)
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
			Time:  at(e.Time, now),
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
	case event.Stale, event.Bypassed, event.Canceled:
		return string(e.Outcome), warning
	}
	return text(string(e.Outcome), maxName), neutral
}

// largest returns the repositories that served the most bytes.
func largest(repositories []event.Repository) []repositoryRow {
	return top(repositories,
		func(r event.Repository) bool { return r.PushedBytes > 0 },
		func(r event.Repository) float64 { return float64(r.PushedBytes) })
}

// slowest returns the repositories whose fetches took longest on average.
func slowest(repositories []event.Repository) []repositoryRow {
	return top(repositories, func(r event.Repository) bool { return r.Fetches > 0 }, meanFetchSeconds)
}

func top(repositories []event.Repository, suitable func(event.Repository) bool, by func(event.Repository) float64) []repositoryRow {
	sorted := slices.DeleteFunc(slices.Clone(repositories), func(r event.Repository) bool { return !suitable(r) })
	slices.SortFunc(sorted, func(a, b event.Repository) int {
		return cmp.Or(cmp.Compare(by(b), by(a)), cmp.Compare(a.Name, b.Name))
	})
	rows := make([]repositoryRow, 0, maxRepositories)
	for _, r := range sorted[:min(len(sorted), maxRepositories)] {
		row := repositoryRow{
			Name: text(r.Name, maxText), Requests: count(float64(r.Requests)), Fetches: count(float64(r.Fetches)),
			Pushed: size(float64(r.PushedBytes)), Pulled: size(float64(r.PulledBytes)), FetchTime: none,
		}
		if r.Fetches > 0 {
			row.FetchTime = duration(time.Duration(meanFetchSeconds(r) * float64(time.Second)))
		}
		rows = append(rows, row)
	}
	return rows
}

func meanFetchSeconds(r event.Repository) float64 {
	return r.FetchSeconds / float64(r.Fetches)
}
