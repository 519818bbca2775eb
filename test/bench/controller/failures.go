// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The ways in which Shoots fail.
const (
	missingSecret = "the Secret with the credential is missing"
	unreachable   = "the API server does not respond"
	hostile       = "a webhook never returns"
)

// pause is the time between two reconciliations of healthy Shoots beside failing ones.
const pause = 2 * time.Second

// prepareFailures makes up the failing Shoots, and listens where they lead the extension to.
func (b *bench) prepareFailures() error {
	// Connections are established, but nothing responds.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b.stopSilent = silent.Close
	b.silent = "https://" + silent.Addr().String()
	b.failures = map[string][]*shoot{
		missingSecret: newShoots("missing-", b.failing, func(s *shoot) { s.withoutSecret = true }),
		unreachable:   newShoots("unreachable-", b.failing, func(s *shoot) { s.address = b.silent }),
		hostile: newShoots("hostile-", b.failing, func(s *shoot) {
			// Only these Shoots have this cache, so its StatefulSet is not annotated by the others.
			s.caches = caches + `,{"upstream":"hostile.example.com"}`
		}),
	}
	return nil
}

// webhook never returns for writes to hostile Shoots.
func (b *bench) webhook() *admissionregistrationv1.ValidatingWebhookConfiguration {
	return &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "hostile"},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name:         "hostile.example.com",
			ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &b.silent, CABundle: b.server.config.CAData},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.OperationAll},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{"*"}, APIVersions: []string{"*"}, Resources: []string{"*"}},
			}},
			MatchConditions: []admissionregistrationv1.MatchCondition{{
				Name: "hostile", Expression: fmt.Sprintf("request.userInfo.username.startsWith('%sshoot--bench--hostile-')", shootUser),
			}},
			SideEffects:             new(admissionregistrationv1.SideEffectClassNone),
			TimeoutSeconds:          new(int32(30)),
			AdmissionReviewVersions: []string{"v1"},
		}},
	}
}

// measureFailures measures how often failing Shoots are reconciled, and whether others have to wait for them.
func (b *bench) measureFailures(ctx context.Context) error {
	heading := fmt.Sprintf("%d Shoots that fail in each of three ways", b.failing)
	if err := b.server.client.Create(ctx, b.webhook()); err != nil {
		return err
	}
	for _, shoots := range b.failures {
		if err := b.create(ctx, shoots); err != nil {
			return err
		}
	}
	if _, err := b.leader.cpu(); err != nil {
		return err
	}
	if _, err := b.server.audit.Read(); err != nil {
		return err
	}
	start := time.Now()
	var latencies []time.Duration
	for i := 0; time.Since(start) < b.failTime; i++ {
		latency, err := b.reconcile(ctx, b.healthy[i%len(b.healthy)])
		if err != nil {
			return err
		}
		latencies = append(latencies, latency)
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
	minutes := time.Since(start).Minutes()
	requests, err := b.server.audit.Read()
	if err != nil {
		return err
	}
	for _, way := range []string{missingSecret, unreachable, hostile} {
		theirs := counts{}
		for _, request := range requests {
			record := newRecord(request)
			if slices.ContainsFunc(b.failures[way], func(s *shoot) bool { return s.namespace == record.namespace }) {
				theirs[record.request]++
			}
		}
		number := float64(len(b.failures[way])) * minutes
		// The library writes the status when a reconciliation starts and when it ends.
		attempts := float64(theirs[request{seed: true, verb: "patch", resource: "extensions/status"}]) / 2
		b.set(heading, way+": attempts a minute", "%.1f", attempts/number)
		b.set(heading, way+": requests a minute", "%.0f", float64(theirs.sum(func(request) bool { return true }))/number)
	}
	cpu, err := b.leader.cpu()
	if err != nil {
		return err
	}
	slices.Sort(latencies)
	b.set(heading, "CPU a minute", "%.1f s", cpu/minutes)
	b.set(heading, "reconciliation of a healthy Shoot, median", "%.1f s", latencies[len(latencies)/2].Seconds())
	b.set(heading, "reconciliation of a healthy Shoot, maximum", "%.1f s", latencies[len(latencies)-1].Seconds())
	return nil
}
