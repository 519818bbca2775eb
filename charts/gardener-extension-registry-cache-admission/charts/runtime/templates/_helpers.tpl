{{- define "registry-cache-admission.runtime.name" -}}
gardener-extension-registry-cache-admission
{{- end }}

{{- define "registry-cache-admission.runtime.labels" -}}
app.kubernetes.io/name: {{ include "registry-cache-admission.runtime.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
