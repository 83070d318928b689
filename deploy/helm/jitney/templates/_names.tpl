{{/* What the release's objects are called. */}}
{{- define "jitney.name" -}}
{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "jitney.selector" -}}
app.kubernetes.io/name: jitney
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "jitney.labels" -}}
{{ include "jitney.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "jitney.metadata" -}}
name: {{ include "jitney.name" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "jitney.labels" . | nindent 2 }}
{{- end }}

{{- define "jitney.secret" -}}
{{- if and .Values.secret.existing .Values.secret.values }}
{{- fail "secret.existing and secret.values: only one of the two can be meant" }}
{{- end }}
{{- if not (or .Values.secret.existing .Values.secret.values) }}
{{- fail "secret: name an existing Secret, or give its values: BUILDKITE_AGENT_TOKEN and JITNEY_TOKEN" }}
{{- end }}
{{- .Values.secret.existing | default (include "jitney.name" .) }}
{{- end }}

{{/* The port that config.listen names, which other pods and the kubelet must be able to reach. */}}
{{- define "jitney.port" -}}
{{- $listen := .Values.config.listen | default "127.0.0.1:8780" }}
{{- if regexMatch "^(127\\.|localhost|\\[::1\\])" $listen }}
{{- fail (printf "config.listen: %s cannot be reached from outside of the pod, not even by its probes; write 0.0.0.0:8780" $listen) }}
{{- end }}
{{- regexFind "[0-9]+$" $listen }}
{{- end }}
