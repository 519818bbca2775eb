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
	"os"
	"path/filepath"
	"regexp"
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

	"github.com/larder-project/larder/pkg/cacheserver/config"
	"github.com/larder-project/larder/pkg/pullsecret"
	"github.com/larder-project/larder/test/upstreamsim"
)

// canary is a secret that is recognizable wherever it occurs.
type canary struct{ name, secret string }

// canariesOf returns the secrets of accounts, whatever their form.
func canariesOf(accounts ...upstreamsim.Account) []canary {
	var canaries []canary
	for _, account := range accounts {
		for kind, secret := range map[string]string{
			"password": account.Password, "identity token": account.IdentityToken, "registry token": account.RegistryToken,
		} {
			// The characteristic part, which is the same in JSON and YAML.
			if secret = characteristic.FindString(secret); secret != "" {
				canaries = append(canaries, canary{name: kind + " of " + account.Username, secret: secret})
			}
		}
	}
	return canaries
}

// characteristic is the part of a secret that no encoding of text changes.
var characteristic = regexp.MustCompile(`canary-[A-Z0-9]+`)

// encodings returns a secret in its usual forms. Base64 encodes it in three ways, depending on what is before it, as the
// user name is in basic authentication.
func (c canary) encodings() map[string][]byte {
	encodings := map[string][]byte{"plain": []byte(c.secret), "hex": []byte(hex.EncodeToString([]byte(c.secret)))}
	for before := range 3 {
		encoded := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", before) + c.secret))
		// The first and the last characters depend on what is around the secret.
		encodings[fmt.Sprintf("base64 after %d bytes", before)] = []byte(encoded[4 : len(encoded)-4])
	}
	return encodings
}

// searchTraces searches everything that the landscape has written for secrets in their usual forms: logs of processes
// and containers, all objects except Secrets, including events, and the pages of debug ports. It returns what it
// searched and where it found them.
func searchTraces(ctx context.Context, canaries []canary) (searched string, found []string) {
	GinkgoHelper()
	forms := map[string][]byte{}
	for _, canary := range canaries {
		for encoding, text := range canary.encodings() {
			forms[canary.name+" "+encoding] = text
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
	restConfig, err := here.RESTConfig()
	Expect(err).NotTo(HaveOccurred())
	resources, err := discovery.NewDiscoveryClientForConfigOrDie(restConfig).ServerPreferredResources()
	Expect(err).NotTo(HaveOccurred())
	lister := dynamic.NewForConfigOrDie(restConfig)
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

// debugPages are the pages of the cache server and of the controller of pull secrets that show their state.
var debugPages = []string{
	"/metrics", "/debug/", config.CredentialsPath, config.StatusPath, "/debug/health", pullsecret.ReportPath,
	"/debug/vars", "/debug/pprof/cmdline", "/debug/pprof/heap",
}

// searchPods searches the logs of containers and the pages of their debug ports.
func searchPods(ctx context.Context, look func(string, []byte)) (logs, pages int) {
	GinkgoHelper()
	restConfig, err := here.RESTConfig()
	Expect(err).NotTo(HaveOccurred())
	clientset := kubernetes.NewForConfigOrDie(restConfig)
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
				for _, path := range debugPages {
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
