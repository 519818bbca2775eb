// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package shoot validates the configuration of the extensions registry-cache and registry-mirror in Shoots, and the
// Secrets that it references.
package shoot

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/gardener/gardener/pkg/apis/core"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	securityv1alpha1 "github.com/gardener/gardener/pkg/apis/security/v1alpha1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

const (
	// maxConcurrentReviews bounds the memory for Shoots, each of which may have megabytes.
	maxConcurrentReviews = 8
	// maxConcurrentReads is the number of Secrets that all reviews together read at the same time. It bounds the memory
	// for Secrets, each of which may have a MiB and is dropped after its validation.
	maxConcurrentReads = 10
	// maxErrors limits the number of reported errors to keep the response readable.
	maxErrors = 20
	// maxErrorLength limits the length of a value or a field in an error.
	maxErrorLength = 512
)

// Handler reviews the creation and the update of Shoots.
type Handler struct {
	decoder         admission.Decoder
	caches, mirrors extension
	reader          client.Reader
	reviews, reads  *semaphore.Weighted
}

// NewHandler returns a handler that decodes Shoots with their configuration of the extensions and reads the referenced
// Secrets. The reader must not be a cache: owners create a Secret and reference it right away, and the component must
// not hold all Secrets of a garden.
func NewHandler(decoder admission.Decoder, reader client.Reader) (*Handler, error) {
	caches, err := newCaches()
	if err != nil {
		return nil, err
	}
	mirrors, err := newMirrors()
	if err != nil {
		return nil, err
	}
	return &Handler{
		decoder: decoder,
		caches:  caches,
		mirrors: mirrors,
		reader:  reader,
		reviews: semaphore.NewWeighted(maxConcurrentReviews),
		reads:   semaphore.NewWeighted(maxConcurrentReads),
	}, nil
}

var _ admission.Handler = &Handler{}

// Handle reads the referenced objects, decides, and returns all errors at once.
func (h *Handler) Handle(ctx context.Context, request admission.Request) admission.Response {
	if err := h.reviews.Acquire(ctx, 1); err != nil {
		return admission.Errored(http.StatusServiceUnavailable, fmt.Errorf("wait for other reviews: %w", err))
	}
	defer h.reviews.Release(1)

	shoot, oldShoot, err := h.decode(request)
	if err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	// An invalid configuration must not block the deletion of a Shoot.
	if shoot.DeletionTimestamp != nil {
		return admission.Allowed("")
	}

	if err := ctx.Err(); err != nil {
		return admission.Errored(http.StatusServiceUnavailable, fmt.Errorf("decode Shoot: %w", err))
	}

	caches, mirrors := h.caches.review(shoot, oldShoot), h.mirrors.review(shoot, oldShoot)
	reviews := []reviewer{caches, mirrors}
	var allErrs field.ErrorList
	for _, review := range reviews {
		allErrs = append(allErrs, review.validateCount()...)
	}
	if len(allErrs) > 0 {
		return refuse(shoot.Name, allErrs)
	}
	objects, err := h.reviewObjects(ctx, shoot.Namespace, reviews)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	var warnings []string
	for i, review := range reviews {
		allErrs = append(allErrs, review.validate()...)
		warnings = append(warnings, review.warnings()...)
		for _, object := range objects[i] {
			allErrs = append(allErrs, object.errs...)
			if object.warning != "" {
				warnings = append(warnings, object.warning)
			}
		}
	}
	if allErrs = append(allErrs, validateOverlap(caches, mirrors)...); len(allErrs) > 0 {
		return refuse(shoot.Name, unique(allErrs))
	}
	return admission.Allowed("").WithWarnings(warnings...)
}

// decode returns the Shoot and, for an update, the old Shoot.
func (h *Handler) decode(request admission.Request) (shoot, oldShoot *gardencorev1beta1.Shoot, err error) {
	shoot = &gardencorev1beta1.Shoot{}
	if err := h.decoder.Decode(request, shoot); err != nil {
		return nil, nil, fmt.Errorf("decode Shoot: %s", shorten(err.Error()))
	}
	if request.Operation != admissionv1.Update {
		return shoot, nil, nil
	}
	oldShoot = &gardencorev1beta1.Shoot{}
	if err := h.decoder.DecodeRaw(request.OldObject, oldShoot); err != nil {
		return nil, nil, fmt.Errorf("decode old Shoot: %s", shorten(err.Error()))
	}
	return shoot, oldShoot, nil
}

// reviewObjects reads each Secret and WorkloadIdentity once and returns what each review finds, the Secrets first, in the
// order of their names.
func (h *Handler) reviewObjects(ctx context.Context, namespace string, reviews []reviewer) ([][]finding, error) {
	secrets, identities := sets.New[string](), sets.New[string]()
	for _, review := range reviews {
		secrets.Insert(review.secretNames()...)
		identities.Insert(review.identityNames()...)
	}
	var reads []func(ctx context.Context) ([]finding, error)
	for _, name := range sets.List(secrets) {
		reads = append(reads, func(ctx context.Context) ([]finding, error) {
			return h.reviewSecret(ctx, client.ObjectKey{Namespace: namespace, Name: name}, reviews)
		})
	}
	for _, name := range sets.List(identities) {
		reads = append(reads, func(ctx context.Context) ([]finding, error) {
			return h.reviewIdentity(ctx, client.ObjectKey{Namespace: namespace, Name: name}, reviews)
		})
	}
	found := make([][]finding, len(reads))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxConcurrentReads)
	for i, read := range reads {
		group.Go(func() (err error) {
			found[i], err = read(ctx)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}

	byReview := make([][]finding, len(reviews))
	for i := range reviews {
		for j := range reads {
			byReview[i] = append(byReview[i], found[j][i])
		}
	}
	return byReview, nil
}

// reviewSecret reads a Secret and returns what each review finds.
func (h *Handler) reviewSecret(ctx context.Context, key client.ObjectKey, reviews []reviewer) ([]finding, error) {
	secret := &corev1.Secret{}
	return h.reviewObject(ctx, "Secret", key, secret, reviews, func(review reviewer, exists bool) finding {
		if !exists {
			return review.reviewSecret(nil, key)
		}
		return review.reviewSecret(secret, key)
	})
}

// reviewIdentity reads a WorkloadIdentity and returns what each review finds.
func (h *Handler) reviewIdentity(ctx context.Context, key client.ObjectKey, reviews []reviewer) ([]finding, error) {
	identity := &securityv1alpha1.WorkloadIdentity{}
	return h.reviewObject(ctx, "WorkloadIdentity", key, identity, reviews, func(review reviewer, exists bool) finding {
		if !exists {
			return review.reviewIdentity(nil, key)
		}
		return review.reviewIdentity(identity, key)
	})
}

// reviewObject reads an object and returns what each review finds.
func (h *Handler) reviewObject(
	ctx context.Context, kind string, key client.ObjectKey, object client.Object, reviews []reviewer, review func(review reviewer, exists bool) finding,
) ([]finding, error) {
	if err := h.reads.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("wait for other reviews: %w", err)
	}
	defer h.reads.Release(1)

	err := h.reader.Get(ctx, key, object)
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("read %s %s: %w", kind, key, err)
	}
	found := make([]finding, len(reviews))
	for i, reviewer := range reviews {
		found[i] = review(reviewer, err == nil)
	}
	return found, nil
}

// unique removes repeated errors: two extensions may have the same problem with the workers.
func unique(errs field.ErrorList) field.ErrorList {
	seen := sets.New[string]()
	return slices.DeleteFunc(errs, func(err *field.Error) bool {
		text := err.Error()
		repeated := seen.Has(text)
		seen.Insert(text)
		return repeated
	})
}

// refuse responds like an API server: clients get each error with its field.
func refuse(name string, errs field.ErrorList) admission.Response {
	status := apierrors.NewInvalid(core.Kind("Shoot"), name, limit(errs)).Status()
	return admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{Allowed: false, Result: &status}}
}

// limit keeps the first errors, shortens their values, and reports the number of the others.
func limit(errs field.ErrorList) field.ErrorList {
	limited := make(field.ErrorList, 0, maxErrors+1)
	for _, err := range errs[:min(len(errs), maxErrors)] {
		short := *err
		short.Field, short.Detail = shorten(err.Field), shorten(err.Detail)
		if value, ok := err.BadValue.(string); ok {
			short.BadValue = shorten(value)
		}
		limited = append(limited, &short)
	}
	if more := len(errs) - len(limited); more > 0 {
		limited = append(limited, field.Invalid(field.NewPath("spec"), field.OmitValueType{}, fmt.Sprintf("and %d more errors", more)))
	}
	return limited
}

func shorten(text string) string {
	return shortenTo(text, maxErrorLength)
}

func shortenTo(text string, length int) string {
	if len(text) <= length {
		return text
	}
	return strings.ToValidUTF8(text[:length], "") + "…"
}
