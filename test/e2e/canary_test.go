// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/larder-project/larder/test/upstreamsim"
)

// searchTraces searches everything that the landscape has written for credentials in their usual forms: logs of
// processes and containers, all objects except Secrets, including events, and metrics. It returns what it searched and
// where it found them.
func searchTraces(ctx context.Context, accounts []upstreamsim.Account) (searched string, found []string) {
	GinkgoHelper()
	forms := map[string][]byte{}
	for _, account := range accounts {
		basic := base64.StdEncoding.EncodeToString([]byte(account.Username + ":" + account.Password))
		// The last characters depend on the following ones.
		encoded := base64.StdEncoding.EncodeToString([]byte(account.Password))
		secret := strings.TrimRight(account.Password, `"#%:'`)
		for form, text := range map[string]string{
			"plain": secret, "basic authentication": basic, "base64": encoded[:len(encoded)-4],
			"hex": hex.EncodeToString([]byte(secret)), "URL": url.QueryEscape(secret),
		} {
			forms[account.Username+" "+form] = []byte(text)
		}
	}
	look := func(place string, content []byte) {
		for form, text := range forms {
			if bytes.Contains(content, text) {
				found = append(found, place+": "+form)
			}
		}
	}
	files := searchFiles(look)
	objects := searchObjects(ctx, look)
	logs, metrics := searchPods(ctx, look)
	return fmt.Sprintf("%d logs of processes, %d objects, %d logs of containers, %d pages of metrics and state", files, objects, logs, metrics), found
}

func searchFiles(look func(string, []byte)) (count int) {
	GinkgoHelper()
	Expect(filepath.WalkDir(here.LogDir(), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		look(path, content)
		count++
		return err
	})).To(Succeed())
	return count
}

func searchObjects(ctx context.Context, look func(string, []byte)) (count int) {
	GinkgoHelper()
	config, err := here.RESTConfig()
	Expect(err).NotTo(HaveOccurred())
	resources, err := discovery.NewDiscoveryClientForConfigOrDie(config).ServerPreferredResources()
	Expect(err).NotTo(HaveOccurred())
	lister := dynamic.NewForConfigOrDie(config)
	for _, list := range discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"list"}}, resources) {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		Expect(err).NotTo(HaveOccurred())
		for _, resource := range list.APIResources {
			if version.Group == "" && resource.Name == "secrets" {
				continue
			}
			objects, err := lister.Resource(version.WithResource(resource.Name)).List(ctx, metav1.ListOptions{})
			if err != nil {
				continue // Some lists are incomplete, such as those of an API server that this test does not need.
			}
			Expect(objects.EachListItem(func(object runtime.Object) error {
				content, err := json.Marshal(object)
				if item, ok := object.(*unstructured.Unstructured); ok {
					look(item.GetKind()+" "+item.GetNamespace()+"/"+item.GetName(), content)
				}
				count++
				return err
			})).To(Succeed())
		}
	}
	return count
}

// searchPods searches the logs of containers and the pages of their debug ports.
func searchPods(ctx context.Context, look func(string, []byte)) (logs, pages int) {
	GinkgoHelper()
	config, err := here.RESTConfig()
	Expect(err).NotTo(HaveOccurred())
	clientset := kubernetes.NewForConfigOrDie(config)
	pods, err := clientset.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	Expect(err).NotTo(HaveOccurred())
	for _, pod := range pods.Items {
		for _, container := range pod.Spec.Containers {
			name := pod.Namespace + "/" + pod.Name + "/" + container.Name
			for _, previous := range []bool{false, true} {
				content, err := clientset.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Container: container.Name, Previous: previous}).DoRaw(ctx)
				if err == nil {
					look("log of "+name, content)
					logs++
				}
			}
			for _, port := range container.Ports {
				for _, path := range []string{"/metrics", "/debug/credentials", "/debug/health", "/debug/vars", "/debug/pprof/cmdline", "/debug/pprof/heap"} {
					content, err := clientset.CoreV1().Pods(pod.Namespace).ProxyGet("http", pod.Name, fmt.Sprint(port.ContainerPort), path, nil).DoRaw(ctx)
					if err == nil {
						look(path+" of "+name, content)
						pages++
					}
				}
			}
		}
	}
	return logs, pages
}
