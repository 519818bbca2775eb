// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/test/landscape"
	"github.com/larder-project/larder/test/landscape/garden"
)

// observation is the evidence of two pulls of an image.
type observation struct {
	image         string
	pod           *corev1.Pod
	cache         []corev1.Pod
	robot         string
	first, second Counts
	requests      []Request
	hosts         string
}

// Show pulls a new private image twice, by pods without credentials, and writes the evidence. It returns an error if
// that does not show that the image came through the cache.
func Show(ctx context.Context, l *landscape.Landscape, w io.Writer) error {
	c, err := garden.Client(l)
	if err != nil {
		return err
	}
	seen, err := observe(ctx, l, c)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, seen.report()+commands(l)); err != nil {
		return err
	}
	return seen.verify()
}

func observe(ctx context.Context, l *landscape.Landscape, c client.Client) (*observation, error) {
	robot, _, err := l.Puller()
	if err != nil {
		return nil, err
	}
	host := garden.PrivateHost
	repository := host + "/" + garden.DemoRepository
	image := repository + ":" + time.Now().UTC().Format("20060102-150405.000")
	if err := garden.PushDemo(ctx, l, image); err != nil {
		return nil, err
	}
	log, err := OpenAccessLog(l)
	if err != nil {
		return nil, err
	}

	seen := &observation{image: image, robot: robot, pod: Pod("hello", image)}
	if seen.cache, err = CachePods(ctx, c, host); err != nil {
		return nil, err
	}
	pull := func() (Counts, error) {
		if err := Delete(ctx, c, seen.pod); err != nil {
			return Counts{}, err
		}
		if err := Forget(ctx, l, repository); err != nil {
			return Counts{}, err
		}
		before, err := CacheCounts(ctx, l, c, host)
		if err != nil {
			return Counts{}, err
		}
		seen.pod = Pod("hello", image)
		if err := Run(ctx, c, seen.pod); err != nil {
			return Counts{}, err
		}
		after, err := CacheCounts(ctx, l, c, host)
		return after.Minus(before), err
	}

	if seen.first, err = pull(); err != nil {
		return nil, err
	}
	if seen.second, err = pull(); err != nil {
		return nil, err
	}

	if seen.requests, err = log.Requests("/" + garden.DemoRepository + "/"); err != nil {
		return nil, err
	}
	hosts, err := os.ReadFile(HostsFile(l, host))
	seen.hosts = string(hosts)
	return seen, err
}

// HostsFile returns the path of the node's hosts.toml for an upstream.
func HostsFile(l *landscape.Landscape, host string) string {
	return filepath.Join(l.NodeRoot(), "etc", "containerd", "certs.d", host, "hosts.toml")
}

// verify returns an error unless the image came through the cache.
func (o *observation) verify() error {
	var errs []error
	if o.pod.Spec.ImagePullSecrets != nil {
		errs = append(errs, errors.New("the pod has credentials"))
	}
	if o.first.Misses == 0 {
		errs = append(errs, errors.New("the cache had the image before the first pull"))
	}
	if o.second.Hits == 0 || o.second.Misses > 0 {
		errs = append(errs, errors.New("the second pull was not served from the cache"))
	}
	if len(o.requests) == 0 {
		errs = append(errs, errors.New("the upstream saw no request for the image"))
	}
	for _, request := range o.requests {
		if !slices.ContainsFunc(o.cache, func(pod corev1.Pod) bool { return pod.Status.PodIP == request.Client }) {
			errs = append(errs, fmt.Errorf("a client other than the cache sent a request to the upstream: %s", request.Line))
		}
		if request.Status < 400 && request.User != o.robot {
			errs = append(errs, fmt.Errorf("the upstream served a user other than %s: %s", o.robot, request.Line))
		}
	}
	if !strings.Contains(o.hosts, "[host.") {
		errs = append(errs, errors.New("the node's hosts.toml names no cache"))
	}
	return errors.Join(errs...)
}

func (o *observation) report() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nThe pod runs without imagePullSecrets:\n  %s/%s  %s  %s\n", o.pod.Namespace, o.pod.Name, o.pod.Status.Phase, o.image)
	b.WriteString("\nThe cache:\n")
	for _, pod := range o.cache {
		fmt.Fprintf(&b, "  %s/%s  %s\n", pod.Namespace, pod.Name, pod.Status.PodIP)
	}
	fmt.Fprintf(&b, "\nThe upstream's access log, with user %s and the cache's address:\n", o.robot)
	for _, request := range o.requests {
		fmt.Fprintf(&b, "  %s\n", request.Line)
	}
	fmt.Fprintf(&b, "\nThe cache's metrics:      hits  misses\n  first pull             %5d  %6d\n  second pull            %5d  %6d\n",
		o.first.Hits, o.first.Misses, o.second.Hits, o.second.Misses)
	fmt.Fprintf(&b, "\nThe node's hosts.toml, installed by a unit while the cache responds:\n  %s\n", strings.ReplaceAll(strings.TrimSpace(o.hosts), "\n", "\n  "))
	return b.String()
}

func commands(l *landscape.Landscape) string {
	return fmt.Sprintf(`
Next steps:
  export KUBECONFIG=%s PATH=%s:$PATH
  kubectl -n garden-dev get shoot example -o yaml
  kubectl -n shoot--dev--example get extensions,operatingsystemconfigs,managedresources,secrets
  kubectl -n kube-system get statefulsets,pods,services,persistentvolumeclaims
  kubectl get pods -A
  less %s/*.log
`, l.AdminKubeconfig(), l.BinDir(), l.LogDir())
}
