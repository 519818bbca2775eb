{{- define "registry-cache-admission.application.name" -}}
gardener-extension-registry-cache-admission
{{- end }}

{{- define "registry-cache-admission.application.labels" -}}
app.kubernetes.io/name: {{ include "registry-cache-admission.application.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
