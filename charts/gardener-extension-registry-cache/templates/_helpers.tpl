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

{{- /* 90 % of the memory limit, for Go's runtime: the rest is for what it does not count. */}}
{{- define "registry-cache.goMemLimit" -}}
{{- with dig "limits" "memory" "" (.Values.resources | default dict) }}
{{- $mebibytes := mul (regexFind "^[0-9]+" . | int) (hasSuffix "Gi" . | ternary 1024 1) }}
{{- div (mul $mebibytes 9) 10 }}MiB
{{- end }}
{{- end }}
