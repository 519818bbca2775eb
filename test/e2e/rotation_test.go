// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	gardencorev1beta1 "github.com/gardener/gardener/pkg/apis/core/v1beta1"
	extensionsv1alpha1 "github.com/gardener/gardener/pkg/apis/extensions/v1alpha1"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/apis/registry/codec"
	"github.com/larder-project/larder/pkg/apis/registry/v1alpha3"
	"github.com/larder-project/larder/test/landscape/evidence"
	"github.com/larder-project/larder/test/landscape/garden"
	"github.com/larder-project/larder/test/landscape/gardenlet"
	"github.com/larder-project/larder/test/landscape/upstream"
	"github.com/larder-project/larder/test/upstreamsim"
)

const (
	// pullsPerSecond is the rate of pulls of images that are not in the cache, on a machine that is fast enough.
	pullsPerSecond = 20
	// pullsAtATime limits concurrent pulls: a slower machine has a lower rate, and no pull waits in the cache until it
	// is rejected.
	pullsAtATime = 16
	pullers      = "journeys/rotation"
)

// rotationTimeout has time for a slow machine to push the images.
const rotationTimeout = 20 * time.Minute

var _ = Describe("Rotating credentials", Ordered, func() {
	var (
		// Names and passwords are recognizable wherever they occur.
		one, two = robot("one"), robot("two")
		canaries = []upstreamsim.Account{one, two, robot("mistyped")}
		plain    v1alpha3.RegistryCache
	)

	// Images are pulled as by containerd, but neither stored nor encrypted, because the machine has other work.
	BeforeEach(func(ctx context.Context) {
		plain = garden.Cache(garden.PrivateHost)
		plain.HTTP = &v1alpha3.HTTP{TLS: new(false)}
		for version, account := range map[string]upstreamsim.Account{"rotation-v1": one, "rotation-v2": two, "rotation-wrong": canaries[2], "rotation-v3": two} {
			Expect(garden.EnsureCredentials(ctx, c, version, account.Username, account.Password)).To(Succeed())
		}
		mayPull(one, two)
		configure(ctx, plain)
		refer(ctx, "rotation-v1")
		waitUntilHealthy(ctx, "rotation-v1")
	}, NodeTimeout(journeyTimeout))

	AfterAll(func(ctx context.Context) {
		mayPull()
		configure(ctx, garden.Cache(garden.PrivateHost))
		for _, version := range []string{"rotation-v1", "rotation-v2", "rotation-wrong", "rotation-v3"} {
			Expect(client.IgnoreNotFound(c.Delete(ctx, projectSecret(version)))).To(Succeed())
		}
	}, NodeTimeout(journeyTimeout))

	It("does not fail any pull", Label("rotation"), func(ctx context.Context) {
		before := cachePod(ctx)
		log := accessLog()
		load := startPulls(ctx)
		load.awaitPulls(ctx, 3*pullsPerSecond)

		By("changing the reference from v1 to v2")
		Expect(c.Delete(ctx, projectSecret("rotation-v1"))).To(MatchError(And(ContainSubstring("in use"), ContainSubstring("example"))), "v1 is in use")
		began := time.Now()
		refer(ctx, "rotation-v2")
		waitUntilUsed(ctx, "rotation-v2")
		took := time.Since(began)

		By("revoking v1 and deleting its Secret")
		revoked := time.Now()
		mayPull(two)
		Expect(c.Delete(ctx, projectSecret("rotation-v1"))).To(Succeed())
		Expect(apierrors.IsForbidden(c.Delete(ctx, projectSecret("rotation-v2")))).To(BeTrue(), "v2 is in use now")
		secret := &corev1.Secret{}
		Eventually(ctx, func(g Gomega) {
			key := cacheKey(garden.PrivateHost)
			key.Name += "-credentials"
			g.Expect(c.Get(ctx, key, secret)).To(Succeed())
			g.Expect(secret.Data).To(HaveLen(3), "v1 is no longer in the cluster")
		}).Should(Succeed())
		load.awaitPulls(ctx, 10*pullsPerSecond)
		result := load.stop()

		byUser, last := map[string]int{}, time.Time{}
		requests, err := log.Requests("/" + pullers + "/")
		Expect(err).NotTo(HaveOccurred())
		for _, request := range requests {
			if request.Client == before.Status.PodIP {
				byUser[request.User]++
				if request.User == one.Username {
					last = request.Time
				}
			}
		}
		after := cachePod(ctx)
		AddReportEntry("rotation", fmt.Sprintf(
			"%d pulls in %s, %d failed; v2 in use %s after the reference moved; upstream requests with v1: %d, the last %s before it was revoked, with v2: %d; restarts: %d",
			result.pulls, result.duration.Round(time.Second), len(result.failures), took.Round(time.Second),
			byUser[one.Username], revoked.Sub(last).Round(time.Millisecond), byUser[two.Username], after.Status.ContainerStatuses[0].RestartCount))
		Expect(result.failures).To(BeEmpty())
		Expect(byUser[one.Username]).To(BeNumerically(">", 0))
		Expect(byUser[two.Username]).To(BeNumerically(">", 0))
		Expect(last).To(BeTemporally("<", revoked))
		Expect(after.UID).To(Equal(before.UID))
		Expect(after.Status.ContainerStatuses[0].RestartCount).To(BeZero())
	}, SpecTimeout(rotationTimeout))

	It("keeps the old ones while the new ones are rejected, and reports it", Label("rotation-rejected"), func(ctx context.Context) {
		before := cachePod(ctx)
		refer(ctx, "rotation-wrong")
		Eventually(ctx, func(g Gomega) {
			condition := systemComponents(g, getShoot(ctx))
			g.Expect(condition.Status).To(Equal(gardencorev1beta1.ConditionFalse))
			g.Expect(condition.Codes).To(ContainElement(gardencorev1beta1.ErrorInfraUnauthorized))
			g.Expect(condition.Message).To(And(
				ContainSubstring(`"rotation-wrong"`), ContainSubstring(garden.PrivateHost), ContainSubstring("401"), ContainSubstring(`"rotation-v1", which must stay valid`)))
		}).Should(Succeed())
		AddReportEntry("rejected", systemComponents(Default, getShoot(ctx)).Message)
		pull(ctx, newImage(ctx, garden.PrivateHost))

		By("correcting the reference")
		refer(ctx, "rotation-v3")
		waitUntilUsed(ctx, "rotation-v3")
		waitUntilHealthy(ctx, "rotation-v3")
		mayPull(two)
		pull(ctx, newImage(ctx, garden.PrivateHost))
		Expect(cachePod(ctx).UID).To(Equal(before.UID))
	}, SpecTimeout(rotationTimeout))

	It("leaves no trace of credentials outside of Secrets", Label("canary"), func(ctx context.Context) {
		searched, found := searchTraces(ctx, canariesOf(canaries...))
		AddReportEntry("canary", fmt.Sprintf("searched %s", searched))
		Expect(found).To(BeEmpty())
	}, SpecTimeout(rotationTimeout))
})

func robot(name string) upstreamsim.Account {
	return upstreamsim.Account{Username: "robot$" + name, Password: "canary-" + rand.Text() + `"#%:'`}
}

// mayPull permits these accounts, in addition to the landscape's own puller, to pull from the upstreams.
func mayPull(accounts ...upstreamsim.Account) {
	GinkgoHelper()
	username, password, err := here.Puller()
	Expect(err).NotTo(HaveOccurred())
	accounts = append(accounts, upstreamsim.Account{Username: username, Password: password})
	Expect(upstream.WritePullers(here.PullersFile(), accounts...)).To(Succeed())
}

func projectSecret(name string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: gardenlet.ProjectNamespace, Name: name}}
}

// refer changes the Shoot's reference to another Secret, and nothing else.
func refer(ctx context.Context, secret string) {
	GinkgoHelper()
	shoot := getShoot(ctx)
	patch := client.MergeFrom(shoot.DeepCopy())
	shoot.Spec.Resources[0].ResourceRef.Name = secret
	Expect(c.Patch(ctx, shoot, patch)).To(Succeed())
}

// waitUntilUsed waits as docs/usage.md tells owners to before they delete and revoke the old credentials.
func waitUntilUsed(ctx context.Context, secret string) {
	GinkgoHelper()
	statefulSet := &appsv1.StatefulSet{}
	Eventually(ctx, func(g Gomega) {
		g.Expect(c.Get(ctx, cacheKey(garden.PrivateHost), statefulSet)).To(Succeed())
		g.Expect(statefulSet.Annotations).To(HaveKeyWithValue("registry.extensions.gardener.cloud/secret-name", secret))
	}).Should(Succeed())
}

// waitUntilHealthy waits until the Shoot reports that it is healthy, which may be later than it is.
func waitUntilHealthy(ctx context.Context, secret string) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega) {
		g.Expect(credentialsStatus(ctx, g)).To(And(
			HaveField("SecretName", secret), HaveField("PendingSecretName", ""), HaveField("State", registry.CredentialsActive)))
		condition := systemComponents(g, getShoot(ctx))
		g.Expect(condition.Status).To(Equal(gardencorev1beta1.ConditionTrue), condition.Message)
		g.Expect(condition.Codes).To(BeEmpty())
	}).Should(Succeed())
}

func systemComponents(g Gomega, shoot *gardencorev1beta1.Shoot) gardencorev1beta1.Condition {
	for _, condition := range shoot.Status.Conditions {
		if condition.Type == gardencorev1beta1.ShootSystemComponentsHealthy {
			return condition
		}
	}
	g.Expect(shoot.Status.Conditions).To(ContainElement(HaveField("Type", gardencorev1beta1.ShootSystemComponentsHealthy)))
	return gardencorev1beta1.Condition{}
}

func providerStatus(ctx context.Context) registry.RegistryCacheStatus {
	GinkgoHelper()
	decoder, err := codec.New()
	Expect(err).NotTo(HaveOccurred())
	extension := &extensionsv1alpha1.Extension{}
	Expect(c.Get(ctx, client.ObjectKey{Namespace: seedNamespace, Name: registry.ExtensionType}, extension)).To(Succeed())
	status, err := decoder.DecodeStatus(extension.Status.ProviderStatus)
	Expect(err).NotTo(HaveOccurred())
	Expect(status.Caches).To(HaveLen(1))
	return status.Caches[0]
}

func credentialsStatus(ctx context.Context, g Gomega) registry.CredentialsStatus {
	GinkgoHelper()
	status := providerStatus(ctx).Credentials
	g.Expect(status).NotTo(BeNil())
	return *status
}

func cachePod(ctx context.Context) corev1.Pod {
	GinkgoHelper()
	pods, err := evidence.CachePods(ctx, c, garden.PrivateHost)
	Expect(err).NotTo(HaveOccurred())
	Expect(pods).To(HaveLen(1))
	return pods[0]
}

// load pulls images that are not in the cache, at a rate that the machine can sustain.
type load struct {
	cancel  context.CancelFunc
	running sync.WaitGroup
	begun   time.Time

	pulls    atomic.Int64
	mu       sync.Mutex
	failures []error
	// longest is the duration of the longest pull on a node since the last call of takeLongest.
	longest time.Duration
}

type loadResult struct {
	pulls    int64
	duration time.Duration
	failures []error
}

func startPulls(ctx context.Context) *load {
	GinkgoHelper()
	endpoint, err := url.Parse(providerStatus(ctx).Endpoint)
	Expect(err).NotTo(HaveOccurred())
	dial, err := evidence.Dialer(here)
	Expect(err).NotTo(HaveOccurred())
	authority, _, err := here.CA()
	Expect(err).NotTo(HaveOccurred())
	username, password, err := here.Pusher()
	Expect(err).NotTo(HaveOccurred())
	l := &load{}
	ctx, l.cancel = context.WithCancel(ctx)
	DeferCleanup(l.cancel)
	pusherOptions, err := upstream.Client{Account: upstreamsim.Account{Username: username, Password: password}, CA: authority, IP: here.IP(), KeepAlive: true}.Options(ctx)
	Expect(err).NotTo(HaveOccurred())
	pusher, err := remote.NewPusher(pusherOptions...)
	Expect(err).NotTo(HaveOccurred())
	puller := upstream.Client{CA: authority, Dial: dial}

	// Pushing takes longer than pulling on this machine. So images are pushed in advance, and more are ordered only
	// when few are left.
	const start = 50 * pullsPerSecond
	orders, ready := make(chan struct{}, start), make(chan string, start)
	for range start {
		orders <- struct{}{}
	}
	var number atomic.Int64
	for range 8 {
		l.running.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-orders:
				}
				tag := fmt.Sprintf("%s/image:%d-%d", pullers, time.Now().Unix(), number.Add(1))
				if push(ctx, pusher, tag) == nil {
					ready <- tag
				} else {
					orders <- struct{}{} // No pull has failed.
				}
			}
		})
	}
	Eventually(ctx, func() int { return len(ready) }).Should(BeNumerically(">=", start))

	l.begun = time.Now()
	turns := make(chan struct{}, pullsAtATime)
	l.running.Go(func() {
		ticker := time.NewTicker(time.Second / pullsPerSecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			select {
			case <-ctx.Done():
				return
			case turns <- struct{}{}:
			}
			select {
			case <-ctx.Done():
				return
			case tag := <-ready:
				if len(ready) < pullsPerSecond {
					orders <- struct{}{}
				}
				l.running.Go(func() {
					defer func() { <-turns }()
					l.pull(context.WithoutCancel(ctx), puller, endpoint.Host+"/"+tag)
				})
			}
		}
	})
	return l
}

// awaitPulls waits for a number of further pulls, however long the machine takes.
func (l *load) awaitPulls(ctx context.Context, more int64) {
	GinkgoHelper()
	Eventually(ctx, l.pulls.Load).Should(BeNumerically(">=", l.pulls.Load()+more))
}

func push(ctx context.Context, pusher *remote.Pusher, tag string) error {
	image, err := random.Image(1024, 1)
	if err != nil {
		return err
	}
	reference, err := name.ParseReference(garden.PrivateHost + "/" + tag)
	if err != nil {
		return err
	}
	return pusher.Push(ctx, reference, image)
}

func (l *load) pull(ctx context.Context, puller upstream.Client, reference string) {
	ctx, cancel := context.WithTimeout(ctx, journeyTimeout/3)
	defer cancel()
	_, err := puller.Pull(ctx, reference)
	l.pulls.Add(1)
	if err != nil {
		l.fail(err)
	}
}

// pullOnNode pulls an image with the node's containerd, and removes it.
func (l *load) pullOnNode(ctx context.Context, images *evidence.Images, reference string, account upstreamsim.Account) {
	begun := time.Now()
	err := images.Pull(ctx, reference, account.Username, account.Password)
	took := time.Since(begun)
	l.mu.Lock()
	l.longest = max(l.longest, took)
	l.mu.Unlock()
	l.pulls.Add(1)
	if err == nil {
		err = images.Remove(ctx, reference)
	}
	if err != nil {
		l.fail(fmt.Errorf("%s: %w", begun.Format(time.TimeOnly), err))
	}
}

// takeLongest returns the duration of the longest pull since the last call. A pull counts when it has ended.
func (l *load) takeLongest() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	longest := l.longest
	l.longest = 0
	return longest
}

func (l *load) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures = append(l.failures, err)
}

func (l *load) stop() loadResult {
	duration := time.Since(l.begun)
	l.cancel()
	l.running.Wait()
	return loadResult{l.pulls.Load(), duration, l.failures}
}
