// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package readiness_test

import (
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larder-project/larder/pkg/apis/registry"
	"github.com/larder-project/larder/pkg/cacheserver/status"
	"github.com/larder-project/larder/pkg/controller/readiness"
)

const name = "registry-docker-io-0"

var (
	now  = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	none = readiness.Problem{}
)

// pod returns a pod in a phase with its only container, after the given changes.
func pod(phase corev1.PodPhase, changes ...func(*corev1.Pod, *corev1.ContainerStatus)) *corev1.Pod {
	pod := &corev1.Pod{Status: corev1.PodStatus{Phase: phase, ContainerStatuses: []corev1.ContainerStatus{{Image: "example.com/cache:v1"}}}}
	for _, change := range changes {
		change(pod, &pod.Status.ContainerStatuses[0])
	}
	return pod
}

func with(conditionType corev1.PodConditionType, status corev1.ConditionStatus, message string) func(*corev1.Pod, *corev1.ContainerStatus) {
	return func(pod *corev1.Pod, _ *corev1.ContainerStatus) {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: conditionType, Status: status, Reason: "Unschedulable", Message: message})
	}
}

func waits(reason string) func(*corev1.Pod, *corev1.ContainerStatus) {
	return func(_ *corev1.Pod, status *corev1.ContainerStatus) {
		status.State.Waiting = &corev1.ContainerStateWaiting{Reason: reason, Message: "alternates"}
	}
}

func crashed(reason string, code int32, ago time.Duration) func(*corev1.Pod, *corev1.ContainerStatus) {
	return func(_ *corev1.Pod, status *corev1.ContainerStatus) {
		status.RestartCount = 7
		status.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{Reason: reason, ExitCode: code, FinishedAt: metav1.NewTime(now.Add(-ago))}
	}
}

var (
	isReady       = with(corev1.PodReady, corev1.ConditionTrue, "")
	isNotReady    = with(corev1.PodReady, corev1.ConditionFalse, "")
	unschedulable = with(corev1.PodScheduled, corev1.ConditionFalse, "0/3 nodes are available: 3 Insufficient memory.")
)

func volume(phase corev1.PersistentVolumeClaimPhase, className string, class *storagev1.StorageClass) readiness.Volume {
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "cache-volume-" + name}, Status: corev1.PersistentVolumeClaimStatus{Phase: phase}}
	if className != "" {
		claim.Spec.StorageClassName = &className
	}
	return readiness.Volume{Claim: claim, Class: class}
}

func class(mode storagev1.VolumeBindingMode) *storagev1.StorageClass {
	return &storagev1.StorageClass{VolumeBindingMode: &mode}
}

func onSelectedNode(volume readiness.Volume) readiness.Volume {
	volume.Claim.Annotations = map[string]string{"volume.kubernetes.io/selected-node": "node-1"}
	return volume
}

var _ = Describe("Pod", func() {
	unbound := func(mode storagev1.VolumeBindingMode) readiness.Volume {
		return volume(corev1.ClaimPending, "premium", class(mode))
	}

	DescribeTable("has the most important problem", func(pod *corev1.Pod, volume readiness.Volume, reason readiness.Reason, texts ...string) {
		problem := readiness.Pod(name, pod, volume, now)
		Expect(problem.Reason).To(Equal(reason))
		for _, text := range texts {
			Expect(problem.Message).To(ContainSubstring(text))
		}
	},
		Entry("none if it is ready", pod(corev1.PodRunning, isReady), readiness.Volume{}, readiness.Reason("")),
		Entry("none if it is ready after a crash", pod(corev1.PodRunning, isReady, crashed("Error", 1, time.Second)), readiness.Volume{}, readiness.Reason("")),

		Entry("StorageClass does not exist", pod(corev1.PodPending, unschedulable), volume(corev1.ClaimPending, "premium", nil), readiness.NoVolume,
			`The StorageClass "premium" of claim cache-volume-registry-docker-io-0 does not exist`, "volume.storageClassName"),
		Entry("no default StorageClass", pod(corev1.PodPending, unschedulable), volume(corev1.ClaimPending, "", nil), readiness.NoVolume, "has no StorageClass", "as the default"),
		Entry("claim waits for its volume", pod(corev1.PodPending, unschedulable), unbound(storagev1.VolumeBindingImmediate), readiness.NoVolume,
			`waits for a volume of the StorageClass "premium"`, "quota"),
		Entry("claim waits for its volume on a node", pod(corev1.PodPending, unschedulable), onSelectedNode(unbound(storagev1.VolumeBindingWaitForFirstConsumer)), readiness.NoVolume, "premium"),
		Entry("claim has lost its volume", pod(corev1.PodPending), volume(corev1.ClaimLost, "premium", nil), readiness.NoVolume, "has lost its volume", name),
		Entry("no node, so that the claim waits", pod(corev1.PodPending, unschedulable), unbound(storagev1.VolumeBindingWaitForFirstConsumer), readiness.Unschedulable,
			"3 Insufficient memory. Add nodes"),
		Entry("no node with a bound claim", pod(corev1.PodPending, unschedulable), volume(corev1.ClaimBound, "premium", nil), readiness.Unschedulable, name),
		Entry("no node and no claim", pod(corev1.PodPending, unschedulable), readiness.Volume{}, readiness.Unschedulable),

		Entry("image cannot be pulled", pod(corev1.PodPending, waits("ErrImagePull")), volume(corev1.ClaimBound, "", nil), readiness.ImagePullFailed, "example.com/cache:v1", "registry of the image"),
		Entry("image cannot be pulled again", pod(corev1.PodPending, waits("ImagePullBackOff")), volume(corev1.ClaimBound, "", nil), readiness.ImagePullFailed, "example.com/cache:v1"),
		Entry("image name is invalid", pod(corev1.PodPending, waits("InvalidImageName")), readiness.Volume{}, readiness.ImagePullFailed),

		Entry("crash loop", pod(corev1.PodRunning, isNotReady, waits("CrashLoopBackOff"), crashed("Error", 2, time.Minute)), readiness.Volume{}, readiness.Crashing,
			"exit code 2", "logs registry-docker-io-0 --previous"),
		Entry("crash loop without details", pod(corev1.PodRunning, isNotReady, waits("CrashLoopBackOff")), readiness.Volume{}, readiness.Crashing),
		Entry("restarted after a crash", pod(corev1.PodRunning, isNotReady, crashed("Error", 2, time.Minute)), readiness.Volume{}, readiness.Crashing, "exit code 2"),
		Entry("out of memory", pod(corev1.PodRunning, isNotReady, crashed("OOMKilled", 137, time.Minute)), readiness.Volume{}, readiness.Crashing, "OOMKilled", "more memory", "limit"),
		Entry("not ready, long after a crash", pod(corev1.PodRunning, isNotReady, crashed("Error", 2, time.Hour)), readiness.Volume{}, readiness.ReplicaNotReady),
		Entry("not ready, long before a crash, since a clock has changed", pod(corev1.PodRunning, isNotReady, crashed("Error", 2, -time.Hour)), readiness.Volume{}, readiness.ReplicaNotReady),
		Entry("restarted after a crash of a node whose clock is ahead", pod(corev1.PodRunning, isNotReady, crashed("Error", 2, -time.Minute)), readiness.Volume{}, readiness.Crashing),
		Entry("not ready after a regular end", pod(corev1.PodRunning, isNotReady, crashed("Completed", 0, time.Minute)), readiness.Volume{}, readiness.ReplicaNotReady),

		Entry("missing", nil, readiness.Volume{}, readiness.ReplicaMissing, name),
		Entry("in deletion", pod(corev1.PodRunning, isReady, func(pod *corev1.Pod, _ *corev1.ContainerStatus) { pod.DeletionTimestamp = &metav1.Time{Time: now} }),
			readiness.Volume{}, readiness.ReplicaMissing, "is being deleted"),
		Entry("evicted", pod(corev1.PodFailed, func(pod *corev1.Pod, _ *corev1.ContainerStatus) { pod.Status.Reason = "Evicted" }), readiness.Volume{}, readiness.ReplicaMissing, "(Evicted)"),
		Entry("creating its container", pod(corev1.PodPending, waits("ContainerCreating")), volume(corev1.ClaimBound, "", nil), readiness.ReplicaNotReady, "(ContainerCreating)"),
		Entry("not ready", pod(corev1.PodRunning, isNotReady), readiness.Volume{}, readiness.ReplicaNotReady, "is not ready. Its events"),
		Entry("without a status", &corev1.Pod{}, readiness.Volume{}, readiness.ReplicaNotReady),
	)

	It("has the same problem whatever the kubelet is doing about it", func() {
		pulling, backingOff := pod(corev1.PodPending, waits("ErrImagePull")), pod(corev1.PodPending, waits("ImagePullBackOff"))
		Expect(readiness.Pod(name, pulling, readiness.Volume{}, now)).To(Equal(readiness.Pod(name, backingOff, readiness.Volume{}, now)))
		crash := crashed("Error", 2, time.Minute)
		running := pod(corev1.PodRunning, isNotReady, crash, func(_ *corev1.Pod, status *corev1.ContainerStatus) { status.RestartCount++ })
		waiting := pod(corev1.PodRunning, isNotReady, crash, waits("CrashLoopBackOff"))
		Expect(readiness.Pod(name, running, readiness.Volume{}, now)).To(Equal(readiness.Pod(name, waiting, readiness.Volume{}, now.Add(time.Second))))
	})
})

var _ = Describe("Report", func() {
	healthy := func() *status.Report {
		return &status.Report{
			Upstream:    status.Upstream{Host: "docker.io", Reachable: true},
			Storage:     status.Storage{Used: 1 << 30, Size: 2 << 30, Free: 1 << 30},
			Certificate: &status.Certificate{NotAfter: now.Add(18 * 24 * time.Hour)},
		}
	}

	DescribeTable("has the most important problem", func(change func(*status.Report), reason readiness.Reason, texts ...string) {
		report := healthy()
		change(report)
		problem := readiness.Report(name, report, now)
		Expect(problem.Reason).To(Equal(reason))
		for _, text := range texts {
			Expect(problem.Message).To(ContainSubstring(text))
		}
	},
		Entry("none", func(*status.Report) {}, readiness.Reason("")),
		Entry("none without TLS", func(r *status.Report) { r.Certificate = nil }, readiness.Reason("")),
		Entry("none with a certificate without end", func(r *status.Report) { r.Certificate.NotAfter = time.Time{} }, readiness.Reason("")),
		Entry("none if it bypassed its volume once", func(r *status.Report) { r.Storage.BypassedAt = now.Add(-time.Hour) }, readiness.Reason("")),
		Entry("none with a certificate that is about to be renewed", func(r *status.Report) { r.Certificate.NotAfter = now.Add(14 * 24 * time.Hour) }, readiness.Reason("")),
		Entry("none if its volume is full, but everything is stored", func(r *status.Report) { r.Storage.Full = true }, readiness.Reason("")),
		Entry("upstream before all others", func(r *status.Report) {
			r.Upstream.Reachable, r.Certificate.NotAfter = false, now
			r.Storage = status.Storage{Bypassing: true, Full: true, Failing: true}
		}, readiness.UpstreamUnreachable),
		Entry("errors of the volume, whether it is full or not", func(r *status.Report) { r.Storage = status.Storage{Bypassing: true, Full: true, Failing: true} },
			readiness.StorageFailing, name, "kubectl -n kube-system logs "+name),
		Entry("full volume", func(r *status.Report) { r.Storage.Bypassing, r.Storage.Full, r.Certificate.NotAfter = true, true, now }, readiness.DiskFull, name, "volume.size"),
		Entry("content that does not fit", func(r *status.Report) { r.Storage.Bypassing = true }, readiness.ContentTooLarge, name, "does not fit", "volume.size"),
		Entry("certificate before content that does not fit", func(r *status.Report) {
			r.Certificate.NotAfter, r.Storage.Bypassing = now.Add(14*24*time.Hour-time.Second), true
		}, readiness.CertificateExpiring, "is valid until 2026-03-15", "reconcile"),
		Entry("expired certificate", func(r *status.Report) { r.Certificate.NotAfter = now.Add(-time.Hour) }, readiness.CertificateExpiring, "expired on 2026-03-01", "nodes bypass the cache"),
		Entry("upstream", func(r *status.Report) {
			r.Upstream = status.Upstream{Host: "docker.io", Message: "connection refused."}
		}, readiness.UpstreamUnreachable,
			"cannot reach the upstream (connection refused). The cache serves only what it has; nodes ask the upstream themselves for the rest.", "remoteURL"),
		Entry("upstream without a cause", func(r *status.Report) { r.Upstream.Reachable = false }, readiness.UpstreamUnreachable, "cannot reach the upstream. The"),
	)
})

var _ = Describe("Of", func() {
	problem := func(reason readiness.Reason) readiness.Problem {
		return readiness.Problem{Reason: reason, Message: "message of " + string(reason)}
	}

	DescribeTable("returns the condition", func(replicas []readiness.Problem, credential readiness.Problem, status metav1.ConditionStatus, reason readiness.Reason, message string) {
		condition := readiness.Of(replicas, credential)
		Expect(condition.Type).To(Equal(registry.ConditionReady))
		Expect(condition.Status).To(Equal(status))
		Expect(condition.Reason).To(BeEquivalentTo(reason))
		Expect(condition.Message).To(Equal(message))
	},
		Entry("True if the replica works", []readiness.Problem{none}, none, metav1.ConditionTrue, readiness.Ready, "No problem is known."),
		Entry("True if both replicas work", []readiness.Problem{none, none}, none, metav1.ConditionTrue, readiness.Ready, "No problem is known."),
		Entry("True if one of two replicas works, with the problem of the other", []readiness.Problem{problem(readiness.Crashing), none}, none,
			metav1.ConditionTrue, readiness.Degraded, "1 of 2 replicas work. message of Crashing"),
		Entry("False if no replica works, with the most important problem", []readiness.Problem{problem(readiness.UpstreamUnreachable), problem(readiness.Unschedulable)}, none,
			metav1.ConditionFalse, readiness.Unschedulable, "message of Unschedulable"),
		Entry("True if content does not fit", []readiness.Problem{none, problem(readiness.ContentTooLarge)}, none, metav1.ConditionTrue, readiness.ContentTooLarge, "message of ContentTooLarge"),
		Entry("True if content does not fit in the only replica that works", []readiness.Problem{problem(readiness.ContentTooLarge), problem(readiness.Crashing)}, none,
			metav1.ConditionTrue, readiness.Degraded, "1 of 2 replicas work. message of Crashing"),
		Entry("False if the credential is rejected", []readiness.Problem{none}, problem(readiness.CredentialRejected),
			metav1.ConditionFalse, readiness.CredentialRejected, "message of CredentialRejected"),
		Entry("False for the credential if one replica works", []readiness.Problem{problem(readiness.NoVolume), none}, problem(readiness.CredentialRejected),
			metav1.ConditionFalse, readiness.CredentialRejected, "message of CredentialRejected"),
		Entry("False for pods rather than for the credential", []readiness.Problem{problem(readiness.Crashing)}, problem(readiness.CredentialMissing),
			metav1.ConditionFalse, readiness.Crashing, "message of Crashing"),
		Entry("False for the credential rather than for the upstream", []readiness.Problem{problem(readiness.UpstreamUnreachable)}, problem(readiness.CredentialRejected),
			metav1.ConditionFalse, readiness.CredentialRejected, "message of CredentialRejected"),
	)

	It("bounds texts from the Shoot, and keeps them on one line", func() {
		long := strings.Repeat("x\n", 1<<17)
		for _, found := range []readiness.Problem{
			readiness.Pod(name, pod(corev1.PodPending, with(corev1.PodScheduled, corev1.ConditionFalse, long)), readiness.Volume{}, now),
			readiness.Pod(name, pod(corev1.PodPending, waits(long)), readiness.Volume{}, now),
			readiness.Pod(name, pod(corev1.PodFailed, func(pod *corev1.Pod, _ *corev1.ContainerStatus) { pod.Status.Reason = long }), readiness.Volume{}, now),
			readiness.Pod(name, pod(corev1.PodPending, waits("ErrImagePull"), func(_ *corev1.Pod, status *corev1.ContainerStatus) { status.Image = long }), readiness.Volume{}, now),
			readiness.Pod(name, pod(corev1.PodPending), volume(corev1.ClaimPending, long, nil), now),
			readiness.Report(name, &status.Report{Upstream: status.Upstream{Message: long}}, now),
			{Reason: readiness.CredentialRejected, Message: long},
		} {
			condition := readiness.Of([]readiness.Problem{found, none}, none)
			Expect(len(condition.Message)).To(BeNumerically("<=", readiness.MaxMessage))
			Expect(condition.Message).To(And(ContainSubstring("x x"), Not(ContainSubstring("\n"))))
		}
	})

	It("orders all problems", func() {
		all := readiness.Problems()
		for i := range all[1:] {
			Expect(readiness.Of([]readiness.Problem{problem(all[i+1]), problem(all[i])}, none).Reason).To(BeEquivalentTo(all[i]))
		}
	})
})
