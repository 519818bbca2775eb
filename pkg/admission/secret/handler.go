// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package secret

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	securityv1alpha1 "github.com/gardener/gardener/pkg/apis/security/v1alpha1"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/larder-project/larder/pkg/limit"
)

// pageSize is the number of Shoots in a page. A Shoot usually has about 10 KiB, but its owner can make it larger than a
// MiB.
const pageSize = 20

// reviewTimeout limits a review. It is shorter than the timeout of the webhooks, after which API servers allow the
// deletion of Secrets without Gardener's finalizer.
const reviewTimeout = 7 * time.Second

// Handler reviews deletions of Secrets and WorkloadIdentities.
type Handler struct {
	// Reader lists Shoots. It must not be a cache, see the package documentation.
	Reader client.Reader
	// Extensions are the extensions that can use Secrets.
	Extensions []Extension
	// Slots limits the reviews that read Shoots at the same time, Shares those of one namespace: projects must not be
	// able to hold up each other.
	Slots  limit.Limit
	Shares *limit.Shares[string]
}

var _ admission.Handler = &Handler{}

// Handle reads the Shoots that may use the object and refuses the deletion if one does.
func (h *Handler) Handle(ctx context.Context, request admission.Request) admission.Response {
	if request.Operation != admissionv1.Delete {
		return admission.Allowed("")
	}
	name, err := nameOf(request)
	if err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	uses := &uses{target: target{kind: kindOf(request), name: name}}
	if err := h.collectAll(ctx, request.Namespace, uses); err != nil {
		code, remedy := int32(http.StatusInternalServerError), ""
		if errors.Is(err, errSlow) {
			code, remedy = http.StatusServiceUnavailable, "; try again"
		}
		return admission.Errored(code, fmt.Errorf("find the Shoots that use the %s: %w%s", uses.target.kind, err, remedy))
	}
	if uses.empty() {
		return admission.Allowed("")
	}
	return admission.Denied(uses.message())
}

// kindOf returns the kind of the object, which is a Secret unless the request names the other kind.
func kindOf(request admission.Request) kind {
	if request.Kind.Group == securityv1alpha1.GroupName && request.Kind.Kind == string(workloadIdentity) {
		return workloadIdentity
	}
	return secret
}

// nameOf reads the name from the object: the request has none for the deletion of a collection. It ignores the rest of
// the object.
func nameOf(request admission.Request) (string, error) {
	object := &metav1.PartialObjectMetadata{}
	if err := json.Unmarshal(request.OldObject.Raw, object); err != nil {
		// The error could quote the object.
		return "", errors.New("the deleted object cannot be decoded")
	}
	if object.Name == "" {
		return "", errors.New("the deleted object has no name")
	}
	return object.Name, nil
}

var errSlow = fmt.Errorf("the review took longer than %s", reviewTimeout)

// collectAll adds the uses by all Shoots in the namespace.
func (h *Handler) collectAll(ctx context.Context, namespace string, uses *uses) error {
	ctx, cancel := context.WithTimeoutCause(ctx, reviewTimeout, errSlow)
	defer cancel()
	// First the namespace's own share: what waits for that must not wait before others.
	share, err := h.Shares.Acquire(ctx, namespace)
	if err != nil {
		return fmt.Errorf("too many concurrent reviews in namespace %s: %w", namespace, err)
	}
	defer share()
	slot, err := h.Slots.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("too many concurrent reviews: %w", err)
	}
	defer slot()
	for _, extension := range h.Extensions {
		if err := h.collect(ctx, namespace, extension, uses); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
	}
	return nil
}

// collect adds the uses by all Shoots in the namespace that have the extension.
func (h *Handler) collect(ctx context.Context, namespace string, extension Extension, uses *uses) error {
	next := ""
	for {
		shoots := &gardencorev1beta1.ShootList{}
		if err := h.Reader.List(ctx, shoots,
			client.InNamespace(namespace), client.MatchingLabels{extension.Label: "true"}, client.Limit(pageSize), client.Continue(next),
		); err != nil {
			return fmt.Errorf("list Shoots in namespace %s: %w", namespace, err)
		}
		for i := range shoots.Items {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("read Shoots in namespace %s: %w", namespace, err)
			}
			uses.add(&shoots.Items[i], extension)
		}
		if next = shoots.Continue; next == "" {
			return nil
		}
	}
}
