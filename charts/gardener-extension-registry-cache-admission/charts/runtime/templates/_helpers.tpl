{{- define "registry-cache-admission.runtime.name" -}}
gardener-extension-registry-cache-admission
{{- end }}

{{- define "registry-cache-admission.runtime.labels" -}}
app.kubernetes.io/name: {{ include "registry-cache-admission.runtime.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* GOMEMLIMIT is 90 % of the memory limit. The rest is for memory that the Go runtime does not count. */}}
{{- define "registry-cache-admission.runtime.goMemLimit" -}}
{{- with dig "limits" "memory" "" (.Values.resources | default dict) }}
{{- $mebibytes := mul (regexFind "^[0-9]+" . | int) (hasSuffix "Gi" . | ternary 1024 1) }}
{{- div (mul $mebibytes 9) 10 }}MiB
{{- end }}
{{- end }}
