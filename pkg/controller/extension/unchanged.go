// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package extension

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// SkipUnchanged returns a manager whose client does not send updates of a status that change nothing. Gardener's
// controller for health checks updates the status of every Extension at every check: with 1,000 Shoots, that is 33
// requests per second that change nothing.
func SkipUnchanged(mgr manager.Manager) manager.Manager {
	return skippingManager{Manager: mgr, client: skippingClient{mgr.GetClient()}}
}

type skippingManager struct {
	manager.Manager

	client client.Client
}

// GetClient implements manager.Manager.
func (m skippingManager) GetClient() client.Client { return m.client }

type skippingClient struct {
	client.Client
}

// Status implements client.Client.
func (c skippingClient) Status() client.SubResourceWriter {
	return skippingWriter{SubResourceWriter: c.Client.Status(), reader: c.Client}
}

type skippingWriter struct {
	client.SubResourceWriter

	reader client.Reader
}

// Update implements client.SubResourceWriter. It compares the object with the cached one of the same version, so a cache
// that is behind cannot hide a change.
func (w skippingWriter) Update(ctx context.Context, object client.Object, options ...client.SubResourceUpdateOption) error {
	present, ok := object.DeepCopyObject().(client.Object)
	if !ok {
		return fmt.Errorf("unexpected copy of %T", object)
	}
	if err := w.reader.Get(ctx, client.ObjectKeyFromObject(object), present); err == nil &&
		present.GetResourceVersion() == object.GetResourceVersion() && equality.Semantic.DeepEqual(present, object) {
		return nil
	}
	return w.SubResourceWriter.Update(ctx, object, options...)
}
