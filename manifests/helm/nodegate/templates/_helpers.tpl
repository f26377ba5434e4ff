{{- define "nodegate.labels" -}}
app.kubernetes.io/name: nodegate
app.kubernetes.io/component: ingress-controller
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- /* A flag's value as the command line has it. Helm reads numbers as floats, and would write a million as 1e+06. */}}
{{- define "nodegate.flag" -}}
{{- if kindIs "slice" . }}{{ join "," . }}{{ else if kindIs "float64" . }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}
