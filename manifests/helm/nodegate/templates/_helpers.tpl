{{- define "nodegate.labels" -}}
app.kubernetes.io/name: nodegate
app.kubernetes.io/component: ingress-controller
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- /* A flag's value as the command line has it. Helm reads numbers as floats, and would write a million as 1e+06. */}}
{{- define "nodegate.flag" -}}
{{- if kindIs "slice" . }}{{ join "," . }}{{ else if kindIs "float64" . }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{- /* Where the probes find the page that they ask: at `flags.admin`, which may be an IPv6 address in brackets. */}}
{{- define "nodegate.admin" -}}
{{- $address := get .Values.flags "admin" | default "127.0.0.1:9080" -}}
host: {{ regexReplaceAll ":[0-9]+$" $address "" | trimPrefix "[" | trimSuffix "]" | quote }}
port: {{ regexFind "[0-9]+$" $address }}
{{- end }}
