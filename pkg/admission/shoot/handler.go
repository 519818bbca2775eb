// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package shoot validates what Shoots make of the registry-cache extension,
// the Secrets that they refer to included.
package shoot

import (
	"context"
	"fmt"
	"net/http"

	"github.com/gardener/gardener/pkg/apis/core"
	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	"golang.org/x/sync/errgroup"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/larder-project/larder/pkg/apis/registry/codec"
)

// maxConcurrentReads is how many Secrets are read at the same time for one review.
const maxConcurrentReads = 10

// Handler answers the reviews of created and updated Shoots.
type Handler struct {
	// Decoder decodes Shoots.
	Decoder admission.Decoder
	// Codec decodes the configuration of the extension.
	Codec *codec.Codec
	// Reader reads the referenced Secrets. It must not be a cache: owners
	// create a Secret and refer to it in the same breath, and the component
	// shall not hold all Secrets of a garden.
	Reader client.Reader
}

var _ admission.Handler = &Handler{}

// Handle reads what the Shoot refers to, decides, and answers with all errors at once.
func (h *Handler) Handle(ctx context.Context, request admission.Request) admission.Response {
	shoot, oldShoot, err := h.decode(request)
	if err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	// Nobody needs a valid configuration to get rid of a Shoot.
	if shoot.DeletionTimestamp != nil {
		return admission.Allowed("")
	}

	review := newReview(shoot, oldShoot, h.Codec)
	secrets, err := h.readSecrets(ctx, shoot.Namespace, review.secretNames())
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	if errs := review.validate(secrets); len(errs) > 0 {
		return refuse(shoot.Name, errs)
	}
	return admission.Allowed("").WithWarnings(review.warnings(secrets)...)
}

// decode returns the Shoot, and what it was before if it is updated.
func (h *Handler) decode(request admission.Request) (shoot, oldShoot *gardencorev1beta1.Shoot, err error) {
	shoot = &gardencorev1beta1.Shoot{}
	if err := h.Decoder.Decode(request, shoot); err != nil {
		return nil, nil, fmt.Errorf("could not decode the Shoot: %w", err)
	}
	if request.Operation != admissionv1.Update {
		return shoot, nil, nil
	}
	oldShoot = &gardencorev1beta1.Shoot{}
	if err := h.Decoder.DecodeRaw(request.OldObject, oldShoot); err != nil {
		return nil, nil, fmt.Errorf("could not decode the old Shoot: %w", err)
	}
	return shoot, oldShoot, nil
}

// readSecrets reads Secrets, each once. The ones that do not exist are missing in the result.
func (h *Handler) readSecrets(ctx context.Context, namespace string, names []string) (map[string]*corev1.Secret, error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxConcurrentReads)
	found := make([]*corev1.Secret, len(names))
	for i, name := range names {
		group.Go(func() error {
			secret := &corev1.Secret{}
			if err := h.Reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, secret); err != nil {
				if apierrors.IsNotFound(err) {
					return nil
				}
				return fmt.Errorf("could not read Secret %s/%s: %w", namespace, name, err)
			}
			found[i] = secret
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}

	secrets := make(map[string]*corev1.Secret, len(names))
	for i, name := range names {
		if found[i] != nil {
			secrets[name] = found[i]
		}
	}
	return secrets, nil
}

// refuse answers like an API server: clients get each error with its field.
func refuse(name string, errs field.ErrorList) admission.Response {
	status := apierrors.NewInvalid(core.Kind("Shoot"), name, errs).Status()
	return admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{Allowed: false, Result: &status}}
}
