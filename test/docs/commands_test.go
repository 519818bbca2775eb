// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"encoding/json"
	"regexp"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larder-project/larder/test/pki"
)

var (
	createSecret = regexp.MustCompile(`kubectl -n (\S+) create secret (\S+) (\S+)(.*)`)
	flag         = regexp.MustCompile(`--([a-z-]+)=((?:'[^']*'|"[^"]*"|[^\s'"])+)`)
	quotes       = strings.NewReplacer(`'`, "", `"`, "")
	continuation = strings.NewReplacer("\\\n", "")
)

// secretsOfCommands returns the Secrets that the commands of a document create with kubectl and make immutable. They
// have what kubectl would read from these files.
func secretsOfCommands(document string, files map[string][]byte) []*corev1.Secret {
	GinkgoHelper()
	var secrets []*corev1.Secret
	for _, block := range blocks(document) {
		if block.language != "sh" && block.language != "bash" {
			continue
		}
		commands := continuation.Replace(block.text)
		for _, command := range createSecret.FindAllStringSubmatch(commands, -1) {
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: command[1], Name: command[3]}, Data: map[string][]byte{}}
			switch kind := command[2]; kind {
			case "generic":
				secret.Type = corev1.SecretTypeOpaque
			case "tls":
				secret.Type = corev1.SecretTypeTLS
			case "docker-registry":
				secret.Type = corev1.SecretTypeDockerConfigJson
			default:
				Fail(block.position + ": unknown kind of Secret " + kind)
			}
			fill(secret, command[4], files)
			if strings.Contains(commands, "patch secret "+secret.Name+` -p '{"immutable":true}'`) {
				secret.Immutable = new(true)
			}
			secrets = append(secrets, secret)
		}
	}
	return secrets
}

// fill sets the content of a Secret as kubectl does for these flags.
func fill(secret *corev1.Secret, flags string, files map[string][]byte) {
	GinkgoHelper()
	read := func(file string) []byte {
		GinkgoHelper()
		Expect(files).To(HaveKey(file), secret.Name)
		return files[file]
	}
	registry := map[string]string{"server": "https://index.docker.io/v1/"}
	for _, match := range flag.FindAllStringSubmatch(flags, -1) {
		name, value := match[1], quotes.Replace(match[2])
		key, rest, _ := strings.Cut(value, "=")
		switch name {
		case "from-literal":
			secret.Data[key] = []byte(rest)
		case "from-file":
			secret.Data[key] = read(rest)
		case "cert":
			secret.Data[corev1.TLSCertKey] = read(value)
		case "key":
			secret.Data[corev1.TLSPrivateKeyKey] = read(value)
		case "docker-server", "docker-username", "docker-password":
			registry[strings.TrimPrefix(name, "docker-")] = value
		default:
			Fail(secret.Name + ": unknown flag --" + name)
		}
	}
	if secret.Type == corev1.SecretTypeDockerConfigJson {
		auth := map[string]string{"username": registry["username"], "password": registry["password"]}
		secret.Data[corev1.DockerConfigJsonKey] = encode(map[string]any{"auths": map[string]any{registry["server"]: auth}})
	}
}

// filesOfOwner returns the files that the commands read.
func filesOfOwner() map[string][]byte {
	GinkgoHelper()
	authority, err := pki.NewAuthority("company")
	Expect(err).NotTo(HaveOccurred())
	client, err := authority.Issue(pki.Request{CommonName: "cache"})
	Expect(err).NotTo(HaveOccurred())
	return map[string][]byte{
		"ca.pem":         authority.Certificate,
		"client.pem":     client.Certificate,
		"client-key.pem": client.Key,
		// gcloud writes these fields.
		"key.json": encode(map[string]string{
			"type": "service_account", "project_id": "my-project", "private_key_id": "1", "private_key": "...",
			"client_email": "shoot-example-puller@my-project.iam.gserviceaccount.com", "client_id": "1",
			"auth_uri": "https://accounts.google.com/o/oauth2/auth", "token_uri": "https://oauth2.googleapis.com/token",
			"auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
			"client_x509_cert_url":        "https://www.googleapis.com/robot/v1/metadata/x509/shoot-example-puller",
			"universe_domain":             "googleapis.com",
		}),
	}
}

func encode(value any) []byte {
	GinkgoHelper()
	data, err := json.Marshal(value)
	Expect(err).NotTo(HaveOccurred())
	return data
}
