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

{{- /* GOMEMLIMIT is 90 % of the memory limit. The rest is for memory that the Go runtime does not count. */}}
{{- define "registry-cache.goMemLimit" -}}
{{- with dig "limits" "memory" "" (.Values.resources | default dict) }}
{{- $mebibytes := mul (regexFind "^[0-9]+" . | int) (hasSuffix "Gi" . | ternary 1024 1) }}
{{- div (mul $mebibytes 9) 10 }}MiB
{{- end }}
{{- end }}
