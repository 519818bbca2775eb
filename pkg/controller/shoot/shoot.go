// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// Package shoot is a client for the API server of a Shoot. The owner of the Shoot controls its responses: the Shoot may
// be full of objects, have admission webhooks that never return, or pods that pose as replicas. So every request has a
// timeout, every response a size limit, and no redirect is followed. Nothing is discovered, listed or watched: objects
// are read by name.
package shoot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"time"

	extensionsconfigv1alpha1 "github.com/gardener/gardener/extensions/pkg/apis/config/v1alpha1"
	"github.com/gardener/gardener/extensions/pkg/util"
	"github.com/gardener/gardener/pkg/client/kubernetes"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/pullsecret"
)

const (
	// requestTimeout bounds a request and its response.
	requestTimeout = 10 * time.Second
	// MaxObject is twice the size of the largest object that an API server stores, in JSON with Base64.
	MaxObject = 4 << 20
	// MaxPod is far larger than a pod, claim or StatefulSet of a cache. It bounds what many Shoots at a time can cost.
	MaxPod = 256 << 10
	// maxReport is larger than any report of a replica.
	maxReport = pullsecret.MaxReport
)

// Shoot is a client for a Shoot and its pods.
type Shoot struct {
	client.Client

	server        *url.URL
	objects, pods *http.Client
}

// Connect returns the Shoot whose kubeconfig is in a namespace of the seed. Close it after use.
func Connect(ctx context.Context, seed client.Client, namespace string) (*Shoot, error) {
	return ConnectWithin(ctx, seed, namespace, MaxObject)
}

// ConnectWithin is [Connect] for a caller that reads only objects of at most maxObject bytes.
func ConnectWithin(ctx context.Context, seed client.Client, namespace string, maxObject int64) (*Shoot, error) {
	options := client.Options{Scheme: kubernetes.ShootScheme, Mapper: newMapper()}
	config, _, err := util.NewClientForShoot(ctx, seed, namespace, options, extensionsconfigv1alpha1.RESTOptions{})
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig of the Shoot: %w", err)
	}
	config.QPS = -1 // The API server has its own fairness, and a wait here would look like an unresponsive replica.
	config.Timeout = requestTimeout
	config.WarningHandler = rest.NoWarnings{} // Admission webhooks of the Shoot write them.
	// With HTTP/2, a pod could fill a window of megabytes before the first byte of its response is read, and a connection
	// occupies memory for another minute after it was closed.
	config.NextProtos = []string{"http/1.1"}

	shoot := &Shoot{}
	if shoot.server, _, err = rest.DefaultServerUrlFor(config); err != nil {
		return nil, fmt.Errorf("read address of the Shoot's API server: %w", err)
	}
	toPods := rest.CopyConfig(config)
	toPods.Wrap(guarded(maxReport))
	if shoot.pods, err = rest.HTTPClientFor(toPods); err != nil {
		return nil, fmt.Errorf("create client for pods of the Shoot: %w", err)
	}
	config.Wrap(guarded(maxObject))
	if shoot.objects, err = rest.HTTPClientFor(config); err != nil {
		return nil, fmt.Errorf("create client for objects of the Shoot: %w", err)
	}
	options.HTTPClient = shoot.objects
	if shoot.Client, err = client.New(config, options); err != nil {
		return nil, fmt.Errorf("create client for the Shoot: %w", err)
	}
	return shoot, nil
}

// Close closes the connections that are idle. client-go keeps them otherwise, and those of a thousand Shoots take more
// memory than new handshakes take time.
func (s *Shoot) Close() {
	utilnet.CloseIdleConnectionsFor(s.objects.Transport)
	utilnet.CloseIdleConnectionsFor(s.pods.Transport)
}

// newMapper maps the kinds that are read and written, to avoid the discovery of all kinds that the owner defined.
func newMapper() meta.RESTMapper {
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{corev1.SchemeGroupVersion, appsv1.SchemeGroupVersion, storagev1.SchemeGroupVersion})
	for _, kind := range []string{"Service", "Secret", "PersistentVolumeClaim", "Pod"} {
		mapper.Add(corev1.SchemeGroupVersion.WithKind(kind), meta.RESTScopeNamespace)
	}
	mapper.Add(appsv1.SchemeGroupVersion.WithKind("StatefulSet"), meta.RESTScopeNamespace)
	mapper.Add(storagev1.SchemeGroupVersion.WithKind("StorageClass"), meta.RESTScopeRoot)
	return mapper
}

// ErrNotFound is the error of a pod that has no such path, and of a pod that does not exist.
var ErrNotFound = errors.New("not found")

// GetFromPod returns the response of a pod to a GET request with the given header, through the proxy of the API server.
// That removes Authorization.
func (s *Shoot) GetFromPod(ctx context.Context, pod client.ObjectKey, port int32, path string, header http.Header) ([]byte, error) {
	location := s.server.JoinPath("api/v1/namespaces", pod.Namespace, "pods", fmt.Sprintf("http:%s:%d", pod.Name, port), "proxy", path)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, location.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("get %s from pod %s: %w", path, pod.Name, err)
	}
	maps.Copy(request.Header, header)
	response, err := s.pods.Do(request)
	if err != nil {
		return nil, fmt.Errorf("get %s from pod %s: %w", path, pod.Name, err)
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusNotFound {
		return nil, fmt.Errorf("get %s from pod %s: %w", path, pod.Name, ErrNotFound)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get %s from pod %s: status %d", path, pod.Name, response.StatusCode)
	}
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("get %s from pod %s: %w", path, pod.Name, err)
	}
	return content, nil
}

// guarded wraps a transport to limit the size of responses.
func guarded(limit int64) func(http.RoundTripper) http.RoundTripper {
	return func(next http.RoundTripper) http.RoundTripper { return guard{next: next, limit: limit} }
}

type guard struct {
	next  http.RoundTripper
	limit int64
}

// WrappedRoundTripper returns the transport that has the connections.
func (g guard) WrappedRoundTripper() http.RoundTripper { return g.next }

// ErrTooLong is the error of a response that exceeds its limit.
var ErrTooLong = errors.New("response is too long")

// IsUnresponsive reports whether an error means that the API server did not respond, or could not.
func IsUnresponsive(err error) bool {
	if errors.Is(err, ErrTooLong) || errors.Is(err, errRedirect) {
		return false
	}
	request := &url.Error{}
	return errors.As(err, &request) || errors.Is(err, context.DeadlineExceeded) ||
		apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err) || apierrors.IsServiceUnavailable(err) || apierrors.IsInternalError(err)
}

var errRedirect = errors.New("response is a redirect, which is not followed")

// RoundTrip implements http.RoundTripper. The API server forwards redirects of pods; a client that followed one would
// make a request from the seed's network to a host of the pod's choice, with its credentials for the Shoot.
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
		return nil, ErrTooLong
	}
	response.Body = &limitedBody{ReadCloser: response.Body, left: g.limit}
	return response, nil
}

// limitedBody is a body that fails once it is too long.
type limitedBody struct {
	io.ReadCloser

	left int64
}

func (b *limitedBody) Read(p []byte) (int, error) {
	// One more byte distinguishes a body of exactly the limit from a longer one.
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if int64(n) > b.left {
		n, err = int(b.left), ErrTooLong
	}
	b.left -= int64(n)
	return n, err
}
