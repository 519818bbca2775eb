// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package secret_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionv1 "k8s.io/api/admission/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/larder-project/larder/pkg/admission/secret"
	"github.com/larder-project/larder/pkg/admission/usage"
	"github.com/larder-project/larder/pkg/limit"
)

const (
	namespace = "garden-dev"
	caches    = "spec.extensions[0].providerConfig.caches"
	robot     = `{"upstream":"quay.io","secretReferenceName":"robot"}`
)

var _ = Describe("Handler", func() {
	var (
		handler *secret.Handler
		shoots  *pages
	)

	BeforeEach(func() {
		caches, err := usage.Caches()
		Expect(err).NotTo(HaveOccurred())
		shoots = &pages{}
		handler = &secret.Handler{
			Reader:     shoots,
			Extensions: []secret.Extension{secret.ExtensionOf(caches)},
			Slots:      limit.New(2),
			Shares:     limit.NewShares[string](1),
		}
	})

	remove := func() admission.Response {
		return handler.Handle(context.Background(), deletion("robot-v1"))
	}

	DescribeTable("denies while a Shoot uses the Secret",
		func(expected string, changes ...change) {
			shoots.add(newShoot("example", changes...))
			response := remove()
			Expect(response.Allowed).To(BeFalse())
			Expect(response.Result.Code).To(BeEquivalentTo(http.StatusForbidden))
			Expect(response.Result.Reason).To(Equal(metav1.StatusReasonForbidden))
			Expect(response.Result.Message).To(HavePrefix("Secret robot-v1 is in use and its deletion cannot be undone: Shoot example (" + expected))
		},
		Entry("one cache", "spec.resources[0], used in "+caches+"[0].secretReferenceName). Reference another Secret",
			config(robot), resource("robot", "robot-v1")),
		Entry("several caches", "spec.resources[0], used in "+caches+"[0].secretReferenceName, "+caches+"[2].secretReferenceName). ",
			config(robot+`,{"upstream":"docker.io"},{"upstream":"ghcr.io","secretReferenceName":"robot"}`), resource("robot", "robot-v1")),
		Entry("too many caches for a message", "spec.resources[0], used in "+caches+"[0].secretReferenceName, "+
			caches+"[1].secretReferenceName, "+caches+"[2].secretReferenceName, "+caches+"[3].secretReferenceName, "+caches+"[4].secretReferenceName, and 2 more). ",
			config(strings.Repeat(robot+",", 6)+robot), resource("robot", "robot-v1")),
		Entry("several entries", "spec.resources[0], spec.resources[2], used in "+caches+"[0].secretReferenceName, "+caches+"[1].secretReferenceName). ",
			config(robot+`,{"upstream":"ghcr.io","secretReferenceName":"android"}`), resource("robot", "robot-v1"), resource("x", "other"), resource("android", "robot-v1")),
		Entry("a CA bundle", "spec.resources[0], used in "+caches+"[0].caBundleSecretReferenceName). ",
			config(`{"upstream":"quay.io","caBundleSecretReferenceName":"robot"}`), resource("robot", "robot-v1")),
		Entry("a client certificate", "spec.resources[0], used in "+caches+"[0].clientCertificateSecretReferenceName). ",
			config(`{"upstream":"quay.io","clientCertificateSecretReferenceName":"robot"}`), resource("robot", "robot-v1")),
		Entry("a credential for proxies", "spec.resources[0], used in "+caches+"[0].proxy.secretReferenceName). ",
			config(`{"upstream":"quay.io","proxy":{"httpsProxy":"http://proxy","secretReferenceName":"robot"}}`), resource("robot", "robot-v1")),
		Entry("a Shoot in deletion", "spec.resources[0], ", config(robot), resource("robot", "robot-v1"), func(s *gardencorev1beta1.Shoot) {
			s.DeletionTimestamp, s.Finalizers = new(metav1.Now()), []string{"gardener"}
		}),
		Entry("a configuration with an unknown field", "spec.resources[0], used in "+caches+"[0].secretReferenceName). ",
			config(`{"upstream":"quay.io","secretReferenceName":"robot","x":1}`), resource("robot", "robot-v1")),
		Entry("a configuration that cannot be decoded", "spec.resources[0], used in spec.extensions[0].providerConfig, which cannot be decoded and may reference it: ",
			rawConfig(`{"apiVersion":"registry.extensions.gardener.cloud/v2","kind":"RegistryConfig"}`), resource("robot", "robot-v1")),
	)

	DescribeTable("allows the deletion of unused Secrets",
		func(changes ...change) {
			shoots.add(newShoot("example", changes...))
			Expect(remove().Allowed).To(BeTrue())
			Expect(shoots.reads).To(Equal(1))
		},
		Entry("another Secret", config(robot), resource("robot", "robot-v2")),
		Entry("an entry that no cache references", config(robot), resource("robot", "robot-v2"), resource("old", "robot-v1")),
		Entry("a reference to another kind", config(robot), resource("robot", "robot-v1", func(r *autoscalingv1.CrossVersionObjectReference) { r.Kind = "ConfigMap" })),
		Entry("a reference to another version", config(robot), resource("robot", "robot-v1", func(r *autoscalingv1.CrossVersionObjectReference) { r.APIVersion = "v2" })),
		Entry("no entry", config(robot)),
		Entry("no configuration", resource("robot", "robot-v1")),
		Entry("a disabled extension", config(robot), resource("robot", "robot-v1"), func(s *gardencorev1beta1.Shoot) { s.Spec.Extensions[0].Disabled = new(true) }),
		Entry("another extension", config(robot), resource("robot", "robot-v1"), func(s *gardencorev1beta1.Shoot) { s.Spec.Extensions[0].Type = "other" }),
		Entry("a configuration that cannot be decoded in a Shoot that does not reference the Secret", rawConfig(`"x"`), resource("robot", "robot-v2")),
	)

	Context("with mirrors", func() {
		const hosts = "spec.extensions[0].providerConfig.mirrors[0].hosts"

		mirrors := func(providerConfig string) change {
			return func(shoot *gardencorev1beta1.Shoot) {
				shoot.Spec.Extensions[0].Type = "registry-mirror"
				rawConfig(providerConfig)(shoot)
			}
		}
		example := mirrors(`{"apiVersion":"mirror.extensions.gardener.cloud/v1alpha1","kind":"MirrorConfig","mirrors":[{"upstream":"docker.io",
			"hosts":[{"host":"https://a"},{"host":"https://b","caBundleSecretReferenceName":"robot"}]}]}`)

		BeforeEach(func() {
			mirrors, err := usage.Mirrors()
			Expect(err).NotTo(HaveOccurred())
			handler.Extensions = []secret.Extension{secret.ExtensionOf(mirrors)}
		})

		It("requests Shoots with the extension", func() {
			remove()
			Expect(shoots.options.LabelSelector.String()).To(Equal("extensions.extensions.gardener.cloud/registry-mirror=true"))
		})

		It("denies while a mirror uses the Secret", func() {
			shoots.add(newShoot("example", example, resource("robot", "robot-v1")))
			Expect(remove().Result.Message).To(ContainSubstring("Shoot example (spec.resources[0], used in " + hosts + "[1].caBundleSecretReferenceName). "))
		})

		It("denies if the configuration cannot be decoded", func() {
			shoots.add(newShoot("example", mirrors(`{"kind":"MirrorConfig"}`), resource("robot", "robot-v1")))
			Expect(remove().Result.Message).To(ContainSubstring("used in spec.extensions[0].providerConfig, which cannot be decoded and may reference it: "))
		})

		DescribeTable("allows the deletion of unused Secrets",
			func(changes ...change) {
				shoots.add(newShoot("example", changes...))
				Expect(remove().Allowed).To(BeTrue())
			},
			Entry("another Secret", example, resource("robot", "robot-v2")),
			Entry("an entry that no mirror references", example, resource("old", "robot-v1")),
			Entry("no configuration", func(s *gardencorev1beta1.Shoot) { s.Spec.Extensions[0].Type = "registry-mirror" }, resource("robot", "robot-v1")),
			Entry("a disabled extension", example, resource("robot", "robot-v1"), func(s *gardencorev1beta1.Shoot) { s.Spec.Extensions[0].Disabled = new(true) }),
		)
	})

	It("allows the deletion if there are no Shoots", func() {
		Expect(remove().Allowed).To(BeTrue())
	})

	It("names the Shoots of all pages", func() {
		for i := range 7 {
			changes := []change{config(robot), resource("robot", "robot-v2")}
			if i%3 == 0 {
				changes = []change{config(robot), resource("x", "x"), resource("robot", "robot-v1")}
			}
			shoots.add(newShoot(fmt.Sprintf("s%d", i), changes...))
		}
		shoots.size = 2
		Expect(remove().Result.Message).To(And(
			ContainSubstring("Shoot s0 (spec.resources[1], used in "+caches+"[0].secretReferenceName); Shoot s3 (spec.resources[1], "),
			ContainSubstring("; Shoot s6 (spec.resources[1], "),
			Not(Or(ContainSubstring("s1"), ContainSubstring("s5"))),
		))
		Expect(shoots.reads).To(Equal(4))
	})

	It("limits the number of Shoots in a message", func() {
		for i := range 2000 {
			shoots.add(newShoot(fmt.Sprintf("s%d", i), config(robot), resource("robot", "robot-v1")))
		}
		shoots.size = 100
		Expect(remove().Result.Message).To(And(
			ContainSubstring("Shoot s19 (spec.resources[0], used in "+caches+"[0].secretReferenceName); and 1980 more. Reference"),
			WithTransform(func(s string) int { return len(s) }, BeNumerically("<", 4096)),
		))
	})

	It("limits the number of entries and caches in a message", func() {
		changes := []change{config(strings.TrimSuffix(strings.Repeat(robot+",", 200), ","))}
		for range 5000 {
			changes = append(changes, resource("robot", "robot-v1"))
		}
		shoots.add(newShoot("example", changes...))
		Expect(remove().Result.Message).To(And(
			ContainSubstring("spec.resources[4], and 4995 more, used in "),
			ContainSubstring("caches[4].secretReferenceName, and 195 more)"),
			WithTransform(func(s string) int { return len(s) }, BeNumerically("<", 4096)),
		))
	})

	DescribeTable("limits the text of decoding errors in a message",
		func(raw string) {
			shoots.add(newShoot("example", rawConfig(raw), resource("robot", "robot-v1")))
			Expect(remove().Result.Message).To(And(
				ContainSubstring("which cannot be decoded and may reference it: "),
				WithTransform(func(s string) int { return len(s) }, BeNumerically("<", 4096)),
			))
		},
		Entry("a hostile size", `{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig","caches":[{"upstream":"quay.io","volume":{"size":1e999999999}}]}`),
		Entry("a long text", `{"x":"`+strings.Repeat("x", 200_000)+`"}`),
		Entry("a longer text", `{"x":"`+strings.Repeat("x", 300_000)+`"}`),
	)

	It("stops when the API server cancels the request", func() {
		ctx, cancel := context.WithCancel(context.Background())
		for i := range 3 {
			shoots.add(newShoot(fmt.Sprintf("s%d", i), config(robot), resource("robot", "robot-v1")))
		}
		shoots.size, shoots.onRead = 1, cancel
		response := handler.Handle(ctx, deletion("robot-v1"))
		Expect(response.Allowed).To(BeFalse())
		Expect(response.Result.Message).To(ContainSubstring("context canceled"))
		Expect(shoots.reads).To(Equal(1))
	})

	It("requests a consistent list of the Shoots with the extension in the namespace of the Secret", func() {
		remove()
		Expect(shoots.options.Namespace).To(Equal(namespace))
		Expect(shoots.options.LabelSelector.String()).To(Equal("extensions.extensions.gardener.cloud/registry-cache=true"))
		Expect(shoots.options.AsListOptions().ResourceVersion).To(BeEmpty())
		Expect(shoots.options.Limit).To(BeNumerically(">", 0))
	})

	It("reads the name from the object, since the deletion of a collection has no name", func() {
		shoots.add(newShoot("example", config(robot), resource("robot", "robot-v1")))
		request := deletion("robot-v1")
		request.Name = ""
		Expect(handler.Handle(context.Background(), request).Allowed).To(BeFalse())
		request = deletion("robot-v2")
		request.Name = ""
		Expect(handler.Handle(context.Background(), request).Allowed).To(BeTrue())
	})

	It("returns an error if it cannot list Shoots", func() {
		shoots.err = errors.New("the network is down")
		response := remove()
		Expect(response.Allowed).To(BeFalse())
		Expect(response.Result.Code).To(BeEquivalentTo(http.StatusInternalServerError))
		Expect(response.Result.Message).To(And(ContainSubstring("namespace garden-dev"), ContainSubstring("the network is down")))
	})

	It("waits for a slot until the request is cancelled", func() {
		for range cap(handler.Slots) {
			_, ok := handler.Slots.TryAcquire()
			Expect(ok).To(BeTrue())
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		response := handler.Handle(ctx, deletion("robot-v1"))
		Expect(response.Allowed).To(BeFalse())
		Expect(response.Result.Message).To(ContainSubstring("too many concurrent reviews"))
		Expect(shoots.reads).To(BeZero())
	})

	It("allows all operations except deletions", func() {
		request := deletion("robot-v1")
		request.Operation = admissionv1.Update
		Expect(handler.Handle(context.Background(), request).Allowed).To(BeTrue())
		Expect(shoots.reads).To(BeZero())
	})

	Context("with a WorkloadIdentity", func() {
		identity := func(shoot *gardencorev1beta1.Shoot) {
			config(robot)(shoot)
			resource("robot", "robot-v1", func(r *autoscalingv1.CrossVersionObjectReference) {
				r.APIVersion, r.Kind = "security.gardener.cloud/v1alpha1", "WorkloadIdentity"
			})(shoot)
		}
		deletionOfIdentity := func() admission.Request {
			request := deletion("robot-v1")
			request.Kind = metav1.GroupVersionKind{Group: "security.gardener.cloud", Version: "v1alpha1", Kind: "WorkloadIdentity"}
			return request
		}

		It("denies its deletion while a Shoot uses it, but not that of a Secret with its name", func() {
			shoots.add(newShoot("example", identity))
			response := handler.Handle(context.Background(), deletionOfIdentity())
			Expect(response.Allowed).To(BeFalse())
			Expect(response.Result.Message).To(Equal("WorkloadIdentity robot-v1 is in use and its deletion cannot be undone: Shoot example (spec.resources[0], used in " + caches +
				"[0].secretReferenceName). Reference another WorkloadIdentity in these entries of spec.resources, or remove the references, before you delete this WorkloadIdentity"))
			Expect(remove().Allowed).To(BeTrue())
		})

		It("allows its deletion if only a Secret with its name is in use", func() {
			shoots.add(newShoot("example", config(robot), resource("robot", "robot-v1")))
			Expect(handler.Handle(context.Background(), deletionOfIdentity()).Allowed).To(BeTrue())
			Expect(remove().Allowed).To(BeFalse())
		})
	})

	DescribeTable("does not quote an object that it cannot decode",
		func(object string) {
			request := deletion("robot-v1")
			request.OldObject.Raw = []byte(object)
			response := handler.Handle(context.Background(), request)
			Expect(response.Allowed).To(BeFalse())
			Expect(response.Result.Code).To(BeEquivalentTo(http.StatusBadRequest))
			Expect(response.Result.Message).NotTo(ContainSubstring("aHVudGVyMg"))
		},
		Entry("an empty object", ``),
		Entry("no name", `{"data":{"password":"aHVudGVyMg=="}}`),
		Entry("invalid metadata", `{"metadata":"aHVudGVyMg=="}`),
	)
})

// pages is a reader that returns Shoots in pages, like an API server.
type pages struct {
	client.Reader
	shoots  []gardencorev1beta1.Shoot
	size    int
	err     error
	reads   int
	onRead  func()
	options client.ListOptions
}

func (p *pages) add(shoot *gardencorev1beta1.Shoot) { p.shoots = append(p.shoots, *shoot) }

func (p *pages) List(_ context.Context, list client.ObjectList, options ...client.ListOption) error {
	p.reads++
	if p.onRead != nil {
		p.onRead()
	}
	p.options = client.ListOptions{}
	p.options.ApplyOptions(options)
	if p.err != nil {
		return p.err
	}
	start, _ := strconv.Atoi(p.options.Continue)
	end := len(p.shoots)
	if p.size > 0 && start+p.size < end {
		end = start + p.size
		list.SetContinue(strconv.Itoa(end))
	}
	list.(*gardencorev1beta1.ShootList).Items = p.shoots[start:end]
	return nil
}

type change = func(*gardencorev1beta1.Shoot)

// newShoot returns a Shoot with the extension.
func newShoot(name string, changes ...change) *gardencorev1beta1.Shoot {
	shoot := &gardencorev1beta1.Shoot{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       gardencorev1beta1.ShootSpec{Extensions: []gardencorev1beta1.Extension{{Type: "registry-cache"}}},
	}
	for _, change := range changes {
		change(shoot)
	}
	return shoot
}

// config sets the caches, given as JSON objects.
func config(caches string) change {
	return rawConfig(`{"apiVersion":"registry.extensions.gardener.cloud/v1alpha3","kind":"RegistryConfig","caches":[` + caches + `]}`)
}

func rawConfig(text string) change {
	return func(shoot *gardencorev1beta1.Shoot) {
		shoot.Spec.Extensions[0].ProviderConfig = &runtime.RawExtension{Raw: []byte(text)}
	}
}

// resource adds an entry to spec.resources that references a Secret.
func resource(name, secret string, changes ...func(*autoscalingv1.CrossVersionObjectReference)) change {
	return func(shoot *gardencorev1beta1.Shoot) {
		entry := gardencorev1beta1.NamedResourceReference{
			Name:        name,
			ResourceRef: autoscalingv1.CrossVersionObjectReference{APIVersion: "v1", Kind: "Secret", Name: secret},
		}
		for _, change := range changes {
			change(&entry.ResourceRef)
		}
		shoot.Spec.Resources = append(shoot.Spec.Resources, entry)
	}
}

// deletion returns the review request for the deletion of a Secret.
func deletion(name string) admission.Request {
	object := fmt.Sprintf(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":%q},"data":{"password":"aHVudGVyMg=="}}`, name)
	return admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Operation: admissionv1.Delete, Namespace: namespace, Name: name, OldObject: runtime.RawExtension{Raw: []byte(object)},
	}}
}

// A response that denies comes before the API server gives up: then it would allow the deletion of a Secret without
// Gardener's finalizer.
func TestSlowReviewsDeny(t *testing.T) {
	const other = "garden-other"
	newHandler := func(t *testing.T, reads *atomic.Int32) *secret.Handler {
		caches, err := usage.Caches()
		NewWithT(t).Expect(err).NotTo(HaveOccurred())
		return &secret.Handler{
			Reader: reader(func(ctx context.Context, inNamespace string) error {
				reads.Add(1)
				if inNamespace == other {
					return nil
				}
				<-ctx.Done()
				return ctx.Err()
			}),
			Extensions: []secret.Extension{secret.ExtensionOf(caches)},
			Slots:      limit.New(2), Shares: limit.NewShares[string](1),
		}
	}
	synctest.Test(t, func(t *testing.T) {
		g, reads := NewWithT(t), &atomic.Int32{}
		handler := newHandler(t, reads)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		responses := make(chan admission.Response, 5)
		for range cap(responses) {
			go func() { responses <- handler.Handle(ctx, deletion("robot-v1")) }()
		}
		synctest.Wait()
		g.Expect(reads.Load()).To(BeEquivalentTo(1), "one review of a namespace at a time")
		request := deletion("robot-v1")
		request.Namespace = other
		g.Expect(handler.Handle(ctx, request).Allowed).To(BeTrue(), "another namespace need not wait")
		for range cap(responses) {
			response := <-responses
			g.Expect(response.Allowed).To(BeFalse())
			g.Expect(response.Result.Code).To(BeEquivalentTo(http.StatusServiceUnavailable))
			g.Expect(response.Result.Message).To(And(ContainSubstring("took longer than 7s"), HaveSuffix("; try again")))
		}
		g.Expect(ctx.Err()).NotTo(HaveOccurred())
	})
}

// reader calls a function for each list in a namespace.
type reader func(ctx context.Context, namespace string) error

func (r reader) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return errors.ErrUnsupported
}

func (r reader) List(ctx context.Context, _ client.ObjectList, options ...client.ListOption) error {
	o := client.ListOptions{}
	return r(ctx, o.ApplyOptions(options).Namespace)
}
