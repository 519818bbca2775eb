{{- define "type" -}}
{{- if markdownShouldRenderType . }}

## {{ .Name }}

{{ .Doc }}
{{- if .References }}

Appears in: {{ range $i, $reference := .SortedReferences }}{{ if $i }}, {{ end }}{{ markdownRenderTypeLink $reference }}{{ end }}.
{{- end }}
{{- if .Members }}

| Field | Type | Description |
| --- | --- | --- |
{{- if .GVK }}
| `apiVersion` | string | `{{ .GVK.Group }}/{{ .GVK.Version }}` |
| `kind` | string | `{{ .GVK.Kind }}` |
{{- end }}
{{- range .Members }}
| `{{ .Name }}`{{ if not .Validation }} (required){{ end }} | {{ markdownRenderType .Type }} | {{ template "type_members" . }} |
{{- end }}
{{- end }}
{{- end -}}
{{- end -}}
