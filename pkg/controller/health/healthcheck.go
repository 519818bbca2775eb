// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gardener/gardener/extensions/pkg/controller/healthcheck"
	v1beta1helper "github.com/gardener/gardener/pkg/api/core/v1beta1/helper"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	resourcesv1alpha1 "github.com/gardener/gardener/pkg/apis/resources/v1alpha1"
	healthutils "github.com/gardener/gardener/pkg/utils/kubernetes/health"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
	"github.com/larder-project/larder/pkg/controller/readiness"
	"github.com/larder-project/larder/pkg/excerpt"
	"github.com/larder-project/larder/pkg/problem"
)

// passingThreshold is how long a problem of one cache that may pass by itself leaves the condition of the Extension
// Progressing. It suffices for a new Shoot to get nodes, for a roll-out, and for a credential to be checked.
const passingThreshold = 10 * time.Minute

// unlimited is the threshold for Gardener's library, which counts from the transition of its condition. In a long roll-out
// of nodes, some cache always lacks a pod for a minute, so that condition would fail although no cache did for long.
const unlimited = time.Duration(math.MaxInt64)

// maxDetails bounds the problems that the condition describes.
const maxDetails = 10

// Check summarizes the health of all caches of a Shoot for the condition of the Extension: from the provider
// status, and from the ManagedResources that deploy the caches. It is one check, since the same missing pod shows in
// both, and is to be described once.
type Check struct {
	// Client reads from the cache of the manager.
	Client client.Client
	// Codec decodes the provider status.
	Codec *codec.Codec
	// ManagedResources are the names of the ManagedResources.
	ManagedResources []string
	// OptionalManagedResources are the names of ManagedResources that need not exist.
	OptionalManagedResources []string
	// Clock decides which problems have lasted for too long to pass by themselves.
	Clock clock.PassiveClock
}

var _ healthcheck.HealthCheck = (*Check)(nil)

// SetLoggerSuffix implements healthcheck.HealthCheck.
func (*Check) SetLoggerSuffix(string, string) {}

// Check implements healthcheck.HealthCheck.
func (h *Check) Check(ctx context.Context, request types.NamespacedName) (*healthcheck.SingleCheckResult, error) {
	summary := &summary{now: h.Clock.Now()}
	unhealthy, err := h.checkManagedResources(ctx, request.Namespace, summary)
	if err != nil {
		return nil, err
	}
	ex := &extensionsv1alpha1.Extension{}
	if err := h.Client.Get(ctx, request, ex); err != nil {
		return nil, fmt.Errorf("read Extension: %w", err)
	}
	status, err := h.Codec.DecodeStatus(ex.Status.ProviderStatus)
	if err != nil && !errors.Is(err, codec.ErrMissing) {
		return nil, fmt.Errorf("decode provider status: %w", err)
	}
	for _, cache := range status.Caches {
		summary.addCache(cache)
	}
	if len(summary.details) == 0 {
		for _, detail := range unhealthy {
			summary.addProgress(detail)
		}
	}
	return summary.result(), nil
}

// checkManagedResources adds what is not deployed to the summary, and returns what is deployed but not healthy. The
// latter is a pod that does not run, which the next look at the caches explains better, and for each cache apart.
func (h *Check) checkManagedResources(ctx context.Context, namespace string, summary *summary) (unhealthy []string, err error) {
	for _, name := range slices.Concat(h.ManagedResources, h.OptionalManagedResources) {
		managedResource := &resourcesv1alpha1.ManagedResource{}
		err := h.Client.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, managedResource)
		if apierrors.IsNotFound(err) && slices.Contains(h.OptionalManagedResources, name) {
			continue
		}
		if apierrors.IsNotFound(err) {
			summary.addProgress(fmt.Sprintf("ManagedResource %s does not exist.", name))
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read ManagedResource %s: %w", name, err)
		}
		if err := healthutils.CheckManagedResourceApplied(managedResource); err != nil {
			summary.addNotApplied(managedResource, managedResourceDetail(err))
		} else if err := healthutils.CheckManagedResourceHealthy(managedResource); err != nil {
			unhealthy = append(unhealthy, managedResourceDetail(err))
		}
	}
	return unhealthy, nil
}

// managedResourceDetail bounds an error that may contain text of the Shoot's admission webhooks.
func managedResourceDetail(err error) string {
	return excerpt.Line(err.Error(), problem.MaxLength-1) + "."
}

// summary collects the problems of a Shoot's caches.
type summary struct {
	now     time.Time
	status  gardencorev1beta1.ConditionStatus
	codes   []gardencorev1beta1.ErrorCode
	details []string
}

// addCache adds the problems of a cache. A cache whose state is unknown has none: the cause, such as an API server that
// does not respond, has a condition of its own in the Shoot.
func (s *summary) addCache(cache registry.RegistryCacheStatus) {
	if condition := ready(cache); condition != nil {
		s.addReadiness(cache, condition)
	}
	for _, kept := range keptConditions {
		if condition := meta.FindStatusCondition(cache.Conditions, kept.kind); condition != nil {
			s.addKept(condition)
		}
	}
	for _, credential := range credentialsOf(cache) {
		switch credential.status.State {
		case registry.CredentialsActive:
		case registry.CredentialsRejected:
			s.addFailure(describe(credential), gardencorev1beta1.ErrorInfraUnauthorized)
		case registry.CredentialsMissing:
			s.addFailure(describe(credential), gardencorev1beta1.ErrorConfigurationProblem)
		default:
			s.addPassing(describe(credential), credential.status.Since)
		}
	}
}

// addReadiness adds the problem of a cache that is not ready, or not highly available although it should be. A problem of
// its credential is described with the state of that.
func (s *summary) addReadiness(cache registry.RegistryCacheStatus, condition *metav1.Condition) {
	reason := readiness.Reason(condition.Reason)
	switch {
	case isCredential(reason):
	case reason == readiness.Degraded:
		// The cache serves all pulls. If that lasts, the alert about missing replicas fires.
		s.addProgress(describeReadiness(cache))
	case condition.Status != metav1.ConditionFalse:
	case reason.MayPass():
		s.addPassing(describeReadiness(cache), condition.LastTransitionTime, codes[reason]...)
	default:
		s.addFailure(describeReadiness(cache), codes[reason]...)
	}
}

// addKept adds the problem of a pull secret or of accounts, once for all caches that share it.
func (s *summary) addKept(condition *metav1.Condition) {
	switch {
	case condition.Status != metav1.ConditionFalse || slices.Contains(s.details, condition.Message):
	case readiness.Reason(condition.Reason) == readiness.ForeignSecret:
		// Whoever may create a Secret in one of the namespaces can cause it, and caches work.
		s.addProgress(condition.Message)
	default:
		s.addPassing(condition.Message, condition.LastTransitionTime)
	}
}

// codes are the codes of problems that only the owner can solve, in the configuration of the caches or of the nodes.
var codes = map[readiness.Reason][]gardencorev1beta1.ErrorCode{
	readiness.NoVolume:         {gardencorev1beta1.ErrorConfigurationProblem},
	readiness.Unschedulable:    {gardencorev1beta1.ErrorConfigurationProblem},
	readiness.NodesUseUpstream: {gardencorev1beta1.ErrorConfigurationProblem},
	readiness.DiskFull:         {gardencorev1beta1.ErrorConfigurationProblem},
}

// invalidObject matches an error of gardener-resource-manager about an object that the API server does not accept.
var invalidObject = regexp.MustCompile(`error during apply of object .* is invalid:`)

// addNotApplied adds a ManagedResource that is not applied. That is a failure only if an attempt has failed.
func (s *summary) addNotApplied(managedResource *resourcesv1alpha1.ManagedResource, detail string) {
	applied := v1beta1helper.GetCondition(managedResource.Status.Conditions, resourcesv1alpha1.ResourcesApplied)
	switch {
	case applied == nil || applied.Status != gardencorev1beta1.ConditionFalse || managedResource.Status.ObservedGeneration != managedResource.Generation:
		s.addProgress(detail)
	case invalidObject.MatchString(detail):
		s.addFailure(detail, gardencorev1beta1.ErrorConfigurationProblem)
	default:
		s.addFailure(detail)
	}
}

// addFailure adds a problem that the owner should solve now.
func (s *summary) addFailure(detail string, codes ...gardencorev1beta1.ErrorCode) {
	s.add(gardencorev1beta1.ConditionFalse, detail, codes)
}

// addPassing adds a problem that is a failure if it has not passed by itself for long.
func (s *summary) addPassing(detail string, since metav1.Time, codes ...gardencorev1beta1.ErrorCode) {
	if s.now.Sub(since.Time) > passingThreshold {
		s.addFailure(detail, codes...)
		return
	}
	s.add(gardencorev1beta1.ConditionProgressing, detail, codes)
}

// addProgress adds what is no failure however long it lasts: if something fails in the meantime, that is described apart.
func (s *summary) addProgress(detail string) {
	s.add(gardencorev1beta1.ConditionProgressing, detail, nil)
}

func (s *summary) add(status gardencorev1beta1.ConditionStatus, detail string, codes []gardencorev1beta1.ErrorCode) {
	if s.status != gardencorev1beta1.ConditionFalse {
		s.status = status
	}
	s.details = append(s.details, detail)
	for _, code := range codes {
		if !slices.Contains(s.codes, code) {
			s.codes = append(s.codes, code)
		}
	}
}

func (s *summary) result() *healthcheck.SingleCheckResult {
	result := &healthcheck.SingleCheckResult{Status: gardencorev1beta1.ConditionTrue, Detail: s.text(), Codes: s.codes}
	if s.status != "" {
		result.Status = s.status
	}
	if s.status == gardencorev1beta1.ConditionProgressing {
		result.ProgressingThreshold = new(unlimited)
	}
	return result
}

// text joins the descriptions. It is part of conditions of the Extension and the Shoot, which are both updated whenever
// it changes.
func (s *summary) text() string {
	left := len(s.details) - maxDetails
	if left <= 0 {
		return strings.Join(s.details, " ")
	}
	return fmt.Sprintf("%s And %d more; see the provider status of the Extension.", strings.Join(s.details[:maxDetails], " "), left)
}
