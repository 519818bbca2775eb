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

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	securityv1alpha1 "github.com/gardener/gardener/pkg/apis/security/v1alpha1"
	"golang.org/x/sync/semaphore"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// pageSize is the number of Shoots in a page. A Shoot usually has about 10 KiB, but its owner can make it larger than a
// MiB.
const pageSize = 20

// Handler reviews deletions of Secrets and WorkloadIdentities.
type Handler struct {
	// Reader lists Shoots. It must not be a cache, see the package documentation.
	Reader client.Reader
	// Extensions are the extensions that can use Secrets.
	Extensions []Extension
	// Slots limits the reviews that read Shoots at the same time.
	Slots *semaphore.Weighted
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
	for _, extension := range h.Extensions {
		if err := h.collect(ctx, request.Namespace, extension, uses); err != nil {
			return admission.Errored(http.StatusInternalServerError, fmt.Errorf("find the Shoots that use the %s: %w", uses.target.kind, err))
		}
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

// collect adds the uses by all Shoots in the namespace that have the extension.
func (h *Handler) collect(ctx context.Context, namespace string, extension Extension, uses *uses) error {
	if err := h.Slots.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("too many concurrent reviews: %w", err)
	}
	defer h.Slots.Release(1)

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
