{{- define "registry-cache.name" -}}
gardener-extension-registry-cache
{{- end }}

{{- define "registry-cache.labels" -}}
app.kubernetes.io/name: {{ include "registry-cache.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "registry-cache.metricsPort" -}}
{{ index .Values.usablePorts 0 }}
{{- end }}

{{- define "registry-cache.webhookPort" -}}
{{ index .Values.usablePorts 1 }}
{{- end }}

{{- define "registry-cache.healthPort" -}}
{{ index .Values.usablePorts 2 }}
{{- end }}
