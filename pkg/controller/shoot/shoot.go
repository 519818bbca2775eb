// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package shoot reaches the API server of a Shoot. What it answers is in the
// hands of the Shoot's owner, who may have filled the Shoot with objects, run
// admission webhooks that never return, or put pods of their own in the place
// of replicas. So every request has a time limit, every answer a size limit, and
// no redirect is followed. Nothing is discovered, listed or watched: objects are
// read by their names.
package shoot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	extensionsconfigv1alpha1 "github.com/gardener/gardener/extensions/pkg/apis/config/v1alpha1"
	"github.com/gardener/gardener/extensions/pkg/util"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// requestTimeout bounds one request with its answer.
	requestTimeout = 10 * time.Second
	// maxResponse is twice what an API server stores of one object, in JSON with Base64.
	maxResponse = 4 << 20
	// maxAnswer is more than any report of a replica has.
	maxAnswer = 16 << 10
)

// Shoot is a client for a Shoot, and a way to its pods.
type Shoot struct {
	client.Client

	server *url.URL
	pods   *http.Client
}

// Connect returns the Shoot whose kubeconfig lies in a namespace of the seed.
func Connect(ctx context.Context, seed client.Client, namespace string) (*Shoot, error) {
	options := client.Options{Scheme: kubernetes.ShootScheme, Mapper: newMapper()}
	config, _, err := util.NewClientForShoot(ctx, seed, namespace, options, extensionsconfigv1alpha1.RESTOptions{})
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig of the Shoot: %w", err)
	}
	config.QPS = -1 // The API server is fair by itself, and waiting here would count as a replica's silence.
	config.Timeout = requestTimeout
	config.WarningHandler = rest.NoWarnings{} // Admission webhooks of the Shoot write them.

	shoot := &Shoot{}
	if shoot.server, _, err = rest.DefaultServerUrlFor(config); err != nil {
		return nil, fmt.Errorf("read the address of the Shoot's API server: %w", err)
	}
	// With HTTP/2 a pod could fill a window of megabytes before the first byte of its answer is looked at.
	toPods := rest.CopyConfig(config)
	toPods.NextProtos = []string{"http/1.1"}
	toPods.Wrap(guarded(maxAnswer))
	if shoot.pods, err = rest.HTTPClientFor(toPods); err != nil {
		return nil, fmt.Errorf("create a client for pods of the Shoot: %w", err)
	}
	config.Wrap(guarded(maxResponse))
	if shoot.Client, err = client.New(config, options); err != nil {
		return nil, fmt.Errorf("create a client for the Shoot: %w", err)
	}
	return shoot, nil
}

// newMapper knows the kinds that are read and written, so that no API server has to be asked for all that its owner defined.
func newMapper() meta.RESTMapper {
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{corev1.SchemeGroupVersion, appsv1.SchemeGroupVersion})
	for _, kind := range []string{"Service", "Secret", "PersistentVolumeClaim", "Pod"} {
		mapper.Add(corev1.SchemeGroupVersion.WithKind(kind), meta.RESTScopeNamespace)
	}
	mapper.Add(appsv1.SchemeGroupVersion.WithKind("StatefulSet"), meta.RESTScopeNamespace)
	return mapper
}

// Ask returns what a pod answers to a GET request that the API server forwards.
func (s *Shoot) Ask(ctx context.Context, pod client.ObjectKey, port int32, path string) ([]byte, error) {
	location := s.server.JoinPath("api/v1/namespaces", pod.Namespace, "pods", fmt.Sprintf("http:%s:%d", pod.Name, port), "proxy", path)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, location.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask pod %s: %w", pod.Name, err)
	}
	response, err := s.pods.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask pod %s: %w", pod.Name, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask pod %s: it answers with status %d", pod.Name, response.StatusCode)
	}
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("read the answer of pod %s: %w", pod.Name, err)
	}
	return answer, nil
}

// guarded wraps a transport so that answers have an end.
func guarded(limit int64) func(http.RoundTripper) http.RoundTripper {
	return func(next http.RoundTripper) http.RoundTripper { return guard{next: next, limit: limit} }
}

type guard struct {
	next  http.RoundTripper
	limit int64
}

var (
	errRedirect = errors.New("the answer is a redirect, which is not followed")
	errTooLong  = errors.New("the answer is longer than any that is expected")
)

// RoundTrip implements http.RoundTripper. A pod decides where it redirects to, the API server passes that on, and a
// client that followed would go there from the seed's network, with its credentials for the Shoot.
func (g guard) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := g.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= 300 && response.StatusCode < 400 {
		_ = response.Body.Close()
		return nil, errRedirect
	}
	if response.ContentLength > g.limit {
		_ = response.Body.Close()
		return nil, errTooLong
	}
	response.Body = &limitedBody{ReadCloser: response.Body, left: g.limit}
	return response, nil
}

// limitedBody is a body that ends with an error where it becomes too long.
type limitedBody struct {
	io.ReadCloser

	left int64
}

func (b *limitedBody) Read(p []byte) (int, error) {
	// One byte more tells a body that has just the limit from one that has more.
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if int64(n) > b.left {
		n, err = int(b.left), errTooLong
	}
	b.left -= int64(n)
	return n, err
}
