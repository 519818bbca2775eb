// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	v1beta1constants "github.com/gardener/gardener/pkg/apis/core/v1beta1/constants"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larder-project/larder/pkg/cacheserver/config"
)

const (
	// user is the user and group ID of the server; the volume is writable for the group.
	user = 65532

	configVolume    = "config"
	configDirectory = "/etc/distribution"
	tlsVolume       = "tls"
	tlsDirectory    = configDirectory + "/tls"

	credentialsVolume    = "credentials"
	credentialsDirectory = configDirectory + "/credentials"

	// deregistration is the time until the nodes stop sending requests to a terminating pod. The server keeps accepting
	// them meanwhile.
	deregistration = 5 * time.Second
	// terminationMargin is the time for the server to exit after it has drained.
	terminationMargin = 10 * time.Second

	annotationConfigChecksum = "checksum/config"

	// memoryTarget is the soft memory limit of the Go runtime. A burst of pulls takes a quarter of it.
	memoryTarget = "256MiB"
)

func podLabels(values Values) map[string]string {
	labels := Labels(values.upstream())
	labels["app.kubernetes.io/name"] = "registry-cache"
	labels[v1beta1constants.LabelNetworkPolicyToDNS] = v1beta1constants.LabelNetworkPolicyAllowed
	labels[v1beta1constants.LabelNetworkPolicyToPublicNetworks] = v1beta1constants.LabelNetworkPolicyAllowed
	return labels
}

// restartAnnotations returns annotations that change if the server must be restarted to apply a change. Credentials and
// certificates need no restart: the server reloads credentials and the files for its connections, and uses a renewed
// certificate at the next handshake.
func restartAnnotations(values Values) (map[string]string, error) {
	configuration, err := values.config().Marshal()
	if err != nil {
		return nil, fmt.Errorf("render configuration of cache %s: %w", values.Cache.Upstream, err)
	}
	return map[string]string{annotationConfigChecksum: checksum(configuration)}, nil
}

func checksum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func podSpec(values Values) corev1.PodSpec {
	return corev1.PodSpec{
		Containers:                    []corev1.Container{container(values)},
		Volumes:                       volumes(values),
		PriorityClassName:             "system-cluster-critical",
		AutomountServiceAccountToken:  new(false),
		EnableServiceLinks:            new(false),
		TerminationGracePeriodSeconds: new(int64((deregistration + config.DrainTimeout + terminationMargin).Seconds())),
		TopologySpreadConstraints:     topologySpreadConstraints(values),
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: new(true),
			RunAsUser:    new(int64(user)),
			RunAsGroup:   new(int64(user)),
			FSGroup:      new(int64(user)),
			// A full cache has many files: change their owner only if the root of the volume has another one.
			FSGroupChangePolicy: new(corev1.FSGroupChangeOnRootMismatch),
			SeccompProfile:      &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
	}
}

// topologySpreadConstraints spreads the replicas of a highly available cache. The constraints are preferences, so that
// a cluster with one node or without zones still runs both replicas.
func topologySpreadConstraints(values Values) []corev1.TopologySpreadConstraint {
	if !values.Cache.HighAvailability.Enabled {
		return nil
	}
	var constraints []corev1.TopologySpreadConstraint
	for _, key := range []string{corev1.LabelTopologyZone, corev1.LabelHostname} {
		constraints = append(constraints, corev1.TopologySpreadConstraint{
			MaxSkew:           1,
			TopologyKey:       key,
			WhenUnsatisfiable: corev1.ScheduleAnyway,
			LabelSelector:     &metav1.LabelSelector{MatchLabels: Labels(values.upstream())},
		})
	}
	return constraints
}

// container returns the container of the cache server.
//
// No probe depends on the upstream: a cache without its upstream still serves its content. A cache with broken storage
// is not ready, so that nodes pull from the upstream, but is not restarted: a restart would not fix the storage.
//
// There are no limits: memory grows with the number of concurrent pulls, and killing a server in a burst of pulls would
// only make it worse. Instead, the garbage collector of the server works harder as memory approaches memoryTarget.
func container(values Values) corev1.Container {
	scheme := corev1.URISchemeHTTP
	if values.ServesTLS() {
		scheme = corev1.URISchemeHTTPS
	}
	return corev1.Container{
		Name:            ContainerName,
		Image:           values.Image,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Args:            []string{"serve", configDirectory + "/" + configKey},
		Env:             environment(values),
		Ports: []corev1.ContainerPort{
			containerPort(portName, config.Port),
			containerPort(DebugPortName, config.DebugPort),
		},
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{
				corev1.ResourceCPU:    resource.MustParse("20m"),
				corev1.ResourceMemory: resource.MustParse("64Mi"),
			},
		},
		StartupProbe: &corev1.Probe{
			ProbeHandler:     httpGet("/", portName, scheme),
			PeriodSeconds:    2,
			FailureThreshold: 60,
		},
		LivenessProbe: &corev1.Probe{
			ProbeHandler:     httpGet("/", portName, scheme),
			PeriodSeconds:    20,
			TimeoutSeconds:   10,
			FailureThreshold: 6,
		},
		ReadinessProbe: &corev1.Probe{
			ProbeHandler:     httpGet("/debug/health", DebugPortName, corev1.URISchemeHTTP),
			PeriodSeconds:    5,
			TimeoutSeconds:   5,
			FailureThreshold: 3,
		},
		Lifecycle: &corev1.Lifecycle{
			PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: int64(deregistration.Seconds())}},
		},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false),
			ReadOnlyRootFilesystem:   new(true),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
		VolumeMounts: volumeMounts(values),
	}
}

// environment returns the environment of the server, which has no credential: everyone who can read the pod can read it.
func environment(values Values) []corev1.EnvVar {
	environment := []corev1.EnvVar{{Name: "GOMEMLIMIT", Value: memoryTarget}}
	proxy := values.Cache.Proxy
	if proxy == nil {
		return environment
	}
	if proxy.HTTPProxy != nil {
		environment = append(environment, corev1.EnvVar{Name: "HTTP_PROXY", Value: *proxy.HTTPProxy})
	}
	if proxy.HTTPSProxy != nil {
		environment = append(environment, corev1.EnvVar{Name: "HTTPS_PROXY", Value: *proxy.HTTPSProxy})
	}
	if len(proxy.NoProxy) > 0 {
		environment = append(environment, corev1.EnvVar{Name: "NO_PROXY", Value: strings.Join(proxy.NoProxy, ",")})
	}
	return environment
}

func volumeMounts(values Values) []corev1.VolumeMount {
	mounts := []corev1.VolumeMount{
		{Name: VolumeClaimTemplate, MountPath: config.StorageRoot},
		{Name: configVolume, MountPath: configDirectory, ReadOnly: true},
	}
	if values.hasCredentials() {
		mounts = append(mounts, corev1.VolumeMount{Name: credentialsVolume, MountPath: credentialsDirectory, ReadOnly: true})
	}
	if values.Connection.needsSecret() {
		mounts = append(mounts, corev1.VolumeMount{Name: connectionVolume, MountPath: connectionDirectory, ReadOnly: true})
	}
	if values.RestrictsAccess() {
		mounts = append(mounts, corev1.VolumeMount{Name: accessVolume, MountPath: accessDirectory, ReadOnly: true})
	}
	if values.hasAccounts() {
		mounts = append(mounts, corev1.VolumeMount{Name: accountsVolume, MountPath: accountsDirectory, ReadOnly: true})
	}
	if values.ServesTLS() {
		mounts = append(mounts, corev1.VolumeMount{Name: tlsVolume, MountPath: tlsDirectory, ReadOnly: true})
	}
	return mounts
}

func volumes(values Values) []corev1.Volume {
	volumes := []corev1.Volume{secretVolume(configVolume, values.configSecretName())}
	if values.hasCredentials() {
		volumes = append(volumes, secretVolume(credentialsVolume, CredentialsSecretName(values.Name())))
	}
	if values.Connection.needsSecret() {
		volumes = append(volumes, secretVolume(connectionVolume, values.connectionSecretName()))
	}
	if values.RestrictsAccess() {
		volumes = append(volumes, secretVolume(accessVolume, values.accessSecretName()))
	}
	if values.hasAccounts() {
		volumes = append(volumes, accountsSecretVolume(values))
	}
	if values.ServesTLS() {
		volumes = append(volumes, secretVolume(tlsVolume, values.tlsSecretName()))
	}
	return volumes
}

func secretVolume(name, secretName string) corev1.Volume {
	return corev1.Volume{
		Name: name,
		VolumeSource: corev1.VolumeSource{
			Secret: &corev1.SecretVolumeSource{SecretName: secretName, DefaultMode: new(int32(0o440))},
		},
	}
}
