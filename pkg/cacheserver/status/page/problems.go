// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package page

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/larder-project/larder/pkg/cacheserver/status"
	"github.com/larder-project/larder/pkg/credentials"
)

// problem is something that a person should look at, with its consequence.
type problem struct {
	Title, Text, Level string
}

// problems lists the problems, the worst first.
func problems(now time.Time, report status.Report, f figures) []problem {
	all := slices.Concat(
		upstreamProblems(now, report.Upstream),
		credentialProblems(now, report.Credentials, f),
		certificateProblems(now, report.Certificate),
		storageProblems(now, report.Storage),
	)
	rank := map[string]int{bad: 0, warning: 1}
	slices.SortStableFunc(all, func(a, b problem) int { return cmp.Compare(rank[a.Level], rank[b.Level]) })
	return all
}

func upstreamProblems(now time.Time, u status.Upstream) []problem {
	all := rateLimitProblems(now, u)
	switch {
	case !u.Reachable:
		p := problem{Title: "The upstream is unreachable", Text: status.OnlyCached, Level: bad}
		if !u.Since.IsZero() {
			p.Title = "The upstream has been unreachable for " + span(max(now.Sub(u.Since), 0))
		}
		if u.Message != "" {
			p.Text += " Cause: " + text(u.Message, maxText) + "."
		}
		all = append([]problem{p}, all...)
	case u.Failing: // An unreachable upstream has failing fetches as well, for the same cause.
		all = append(all, problem{
			Title: fmt.Sprintf("More than %d fetches have failed within %s", status.ManyFailures, span(status.FailureWindow)),
			Text:  "Nodes ask the upstream themselves for that content. Recent misses and failures below show the causes.", Level: warning,
		})
	}
	return all
}

func rateLimitProblems(now time.Time, u status.Upstream) []problem {
	limit := u.RateLimit
	switch {
	case limit != nil && limit.Remaining <= 0:
		return []problem{{Title: "The rate limit of the upstream is used up", Level: bad, Text: status.OnlyCached}}
	case status.IsRecent(u.RateLimitedAt, now, status.FailureWindow):
		return []problem{{
			Title: "The rate limit of the upstream was exceeded", Level: warning,
			Text: "The upstream last rejected a request with status 429 " + past(u.RateLimitedAt, now).Relative + ". " + status.OnlyCached,
		}}
	case limit != nil && float64(limit.Remaining) < status.LowRateLimit*float64(limit.Limit):
		return []problem{{
			Title: "The rate limit of the upstream is nearly used up", Level: warning,
			Text: fmt.Sprintf("%s of %s requests are left in its time window.", count(float64(limit.Remaining)), count(float64(limit.Limit))),
		}}
	}
	return nil
}

func credentialProblems(now time.Time, r *credentials.Report, f figures) []problem {
	const remedy = "Create a Secret with a valid credential and reference it in the Shoot."
	if r == nil {
		return nil
	}
	candidate := r.PendingSecretName != ""
	waited := now.Sub(f.credentialPendingSince)
	switch {
	case r.State == credentials.StateMissing:
		return []problem{{Title: "The credential is missing", Level: bad, Text: text(r.Message, maxText) + "."}}
	case r.State == credentials.StateRejected && candidate:
		return []problem{{Title: "The upstream rejects the candidate", Level: warning, Text: "The active credential stays in use. " + remedy}}
	case r.State == credentials.StateRejected:
		p := problem{Title: "The upstream rejects the credential", Level: bad, Text: status.OnlyCached}
		if r.SecretName != "" {
			p.Text += " " + remedy
		}
		return []problem{p}
	case r.State == credentials.StatePending && candidate && f.credentialRejected:
		return []problem{{Title: "The upstream rejects the active credential", Level: bad, Text: status.OnlyCached + " The candidate is not accepted yet."}}
	case r.State == credentials.StatePending && candidate && !f.credentialPendingSince.IsZero() && waited > status.RotationTimeout:
		return []problem{{
			Title: "The candidate has been pending for " + span(waited), Level: warning,
			Text: "The upstream has not accepted it. The active credential must stay valid until then.",
		}}
	}
	return nil
}

func certificateProblems(now time.Time, c *status.Certificate) []problem {
	if c == nil {
		return nil
	}
	expiry := at(c.NotAfter, now).Relative
	switch left := c.NotAfter.Sub(now); {
	case left <= 0:
		return []problem{{Title: "The certificate expired " + expiry, Level: bad, Text: "Nodes bypass the cache and pull from the upstream."}}
	case left < status.CertificateMargin:
		return []problem{{
			Title: "The certificate expires " + expiry, Level: warning,
			Text: "It should have been renewed by now. When it has expired, nodes bypass the cache and pull from the upstream.",
		}}
	}
	return nil
}

func storageProblems(now time.Time, s status.Storage) []problem {
	const consequence = " Each pull of such content fetches it again."
	var all []problem
	if s.Bypassing {
		p := problem{Title: "The volume is full", Level: warning}
		if !s.Full {
			p.Title = "Some content is too large for the volume"
		}
		p.Text = "The last fetch without space to store it was " + past(s.BypassedAt, now).Relative + "." + consequence
		all = append(all, p)
	}
	if s.Failing {
		all = append(all, problem{
			Title: "The volume fails", Level: warning,
			Text: "The volume has errors or does not respond, last " + past(s.FailedAt, now).Relative + ". The log of the cache has the error. " +
				"Content that cannot be stored is fetched again by each pull; while the volume does not respond, nodes get what is not in memory from the upstream.",
		})
	}
	return all
}
