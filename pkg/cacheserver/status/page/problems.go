// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package page

import (
	"fmt"
	"time"

	"github.com/larder-project/larder/pkg/cacheserver/status"
	"github.com/larder-project/larder/pkg/credentials"
)

// problem is something that a person should look at, with its consequence.
type problem struct {
	Title, Text, Level string
}

// problems lists the problems, those that make pulls fail first.
func problems(now time.Time, report status.Report, f figures) []problem {
	var all []problem
	for _, found := range []*problem{
		upstreamProblem(now, report.Upstream),
		credentialProblem(report.Credentials),
		certificateProblem(now, report.Certificate),
		storageProblem(now, report.Storage),
		rateLimitProblem(f.budgets),
	} {
		if found != nil {
			all = append(all, *found)
		}
	}
	return all
}

func upstreamProblem(now time.Time, u status.Upstream) *problem {
	if u.Reachable {
		return nil
	}
	p := &problem{Title: "The upstream is unavailable", Text: "Only cached images can be pulled.", Level: bad}
	if !u.Since.IsZero() {
		p.Title = "The upstream has been unavailable for " + span(max(now.Sub(u.Since), 0))
	}
	if u.Message != "" {
		p.Text += " Cause: " + text(u.Message, maxText) + "."
	}
	return p
}

func credentialProblem(r *credentials.Report) *problem {
	const remedy = "Create a Secret with a valid credential and reference it in the Shoot."
	switch {
	case r == nil:
		return nil
	case r.State == credentials.StateRejected && r.PendingSecretName != "":
		return &problem{
			Title: "The upstream rejects the new credential", Level: warning,
			Text: "The previous one stays in use. " + remedy,
		}
	case r.State == credentials.StateRejected:
		p := &problem{Title: "The upstream rejects the credential", Text: "Only cached images can be pulled.", Level: bad}
		if r.SecretName != "" {
			p.Text += " " + remedy
		}
		return p
	case r.State == credentials.StateMissing:
		return &problem{Title: "The credential cannot be read", Level: bad, Text: text(r.Message, maxText) + "."}
	}
	return nil
}

func certificateProblem(now time.Time, c *status.Certificate) *problem {
	if c == nil {
		return nil
	}
	expiry := at(c.NotAfter, now).Relative
	switch left := c.NotAfter.Sub(now); {
	case left <= 0:
		return &problem{Title: "The certificate expired " + expiry, Level: bad, Text: "Nodes bypass the cache and pull from the upstream."}
	case left < status.CertificateMargin:
		return &problem{Title: "The certificate expires " + expiry, Level: warning, Text: "It should have been renewed by now."}
	}
	return nil
}

func storageProblem(now time.Time, s status.Storage) *problem {
	if !s.Bypassing {
		return nil
	}
	p := &problem{Title: "The volume is full", Level: warning, Text: "Images that do not fit are fetched again for each pull."}
	if !s.BypassedAt.IsZero() {
		p.Text = "The last fetch that was not stored was " + at(s.BypassedAt, now).Relative + ". " + p.Text
	}
	return p
}

func rateLimitProblem(budgets []budget) *problem {
	b, ok := tightest(budgets)
	switch {
	case !ok || b.remaining >= status.LowRateLimit*b.limit:
		return nil
	case b.remaining <= 0:
		return &problem{Title: "The rate limit of the upstream is used up", Level: bad, Text: "Only cached images can be pulled until its time window ends."}
	}
	return &problem{
		Title: "The rate limit of the upstream is nearly used up", Level: warning,
		Text: fmt.Sprintf("%s of %s requests are left in its time window.", count(b.remaining), count(b.limit)),
	}
}
