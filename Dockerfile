# SPDX-FileCopyrightText: The Larder Authors
#
# SPDX-License-Identifier: Apache-2.0

# Each program has a target: docker build --target registry-cache-server --build-arg VERSION=$(cat VERSION) .
# For several architectures: docker buildx build --platform linux/amd64,linux/arm64 ...
#
# BASE is the base image. The programs are static and need only its CA certificates in /etc/ssl/certs, with which the
# cache server verifies upstream registries: use a base with your organisation's CAs to trust them. BASE=scratch has no
# CAs; mount a bundle and set SSL_CERT_FILE.
#
# Both images are pinned by the digest of their multi-architecture index; the tag is informative.
ARG GO_IMAGE=golang:1.26.8@sha256:0f063af2d465d8dcae54cce04278ada488b96f77b42449c8d071e47d016cc65a
ARG BASE=gcr.io/distroless/static-debian12:nonroot@sha256:d093aa3e30dbadd3efe1310db061a14da60299baff8450a17fe0ccc514a16639

FROM --platform=${BUILDPLATFORM} ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY cmd cmd
COPY imagevector imagevector
COPY pkg pkg
ARG TARGETOS
ARG TARGETARCH
ARG VERSION
RUN CGO_ENABLED=0 GOOS=${TARGETOS} GOARCH=${TARGETARCH} go build -trimpath -o /out/ \
    -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=${VERSION:?must be given}" \
    ./cmd/gardener-extension-registry-cache ./cmd/gardener-extension-registry-cache-admission \
    ./cmd/registry-cache-server ./cmd/registry-cache-pull-secrets

FROM ${BASE} AS base
USER 65532:65532

FROM base AS gardener-extension-registry-cache
COPY --from=build /out/gardener-extension-registry-cache /gardener-extension-registry-cache
ENTRYPOINT ["/gardener-extension-registry-cache"]

FROM base AS gardener-extension-registry-cache-admission
COPY --from=build /out/gardener-extension-registry-cache-admission /gardener-extension-registry-cache-admission
ENTRYPOINT ["/gardener-extension-registry-cache-admission"]

FROM base AS registry-cache-server
COPY --from=build /out/registry-cache-server /registry-cache-server
ENTRYPOINT ["/registry-cache-server"]
CMD ["serve", "/etc/distribution/config.yml"]

FROM base AS registry-cache-pull-secrets
COPY --from=build /out/registry-cache-pull-secrets /registry-cache-pull-secrets
ENTRYPOINT ["/registry-cache-pull-secrets"]
