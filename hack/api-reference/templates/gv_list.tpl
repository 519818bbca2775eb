{{- define "gvList" -}}
<!-- Generated from the Go types by `make generate`. Edit those, not this file. -->

{{ range . }}{{ template "gvDetails" . }}{{ end }}
{{ end -}}
