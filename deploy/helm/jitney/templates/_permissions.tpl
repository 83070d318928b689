{{/*
What Jitney's code asks of the API server, made from the configuration: by namespace, and there by
"group|resource", the verbs. A backend with a kubeconfig or a context of its own is another
cluster's, and asks nothing of this one.
*/}}
{{- define "jitney.permissions" -}}
{{- $used := list }}
{{- range $queue := .Values.config.queues }}
{{- $used = concat $used (($queue | default dict).backends | default list) }}
{{- end }}
{{- $places := dict }}
{{- range $name, $backend := .Values.config.backends }}
{{- $of := ($backend | default dict).kubernetes | default dict }}
{{- if and (hasKey ($backend | default dict) "kubernetes") (not (or $of.kubeconfig $of.context)) }}
{{- if has $name $used }}
{{- include "jitney.machines" (dict "rules" (include "jitney.place" (list $ $places $name $of) | get $places) "of" $of) }}
{{- end }}
{{- range $fleet := $.Values.config.fleets }}
{{- if eq $name $fleet.backend }}
{{- include "jitney.fleet" (dict "rules" (include "jitney.place" (list $ $places $name $of) | get $places) "of" $fleet) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- $places | toYaml }}
{{- end }}

{{/* The namespace of a backend, which has a place among the others from now on. */}}
{{- define "jitney.place" -}}
{{- $root := index . 0 }}
{{- $places := index . 1 }}
{{- $name := index . 2 }}
{{- $namespace := (index . 3).namespace | default "" }}
{{- if or (eq $namespace "") (eq $namespace $root.Release.Namespace) }}
{{- fail (printf "config.backends.%s.kubernetes.namespace: name a namespace for the jobs, and not %s, in which Jitney's own token is" $name $root.Release.Namespace) }}
{{- end }}
{{- if not (hasKey $places $namespace) }}
{{- $_ := set $places $namespace dict }}
{{- end }}
{{- $namespace }}
{{- end }}

{{/*
A Job for every job: it, its pod, its token, and for `jitney doctor` what is left of quotas. What has
failed is kept by a change to both.
*/}}
{{- define "jitney.machines" -}}
{{- $keeps := not (has (toString (.of.keep_failed | default "0s")) (list "0" "0s" "0m" "0h")) }}
{{- include "jitney.allow" (list .rules "batch|jobs" (list "create" "delete" "get" "list" "watch")) }}
{{- include "jitney.allow" (list .rules "|pods" (list "delete" "list" "watch")) }}
{{- include "jitney.allow" (list .rules "|secrets" (list "create" "list" "patch")) }}
{{- include "jitney.allow" (list .rules "|events" (list "list" "watch")) }}
{{- include "jitney.allow" (list .rules "|resourcequotas" (list "list")) }}
{{- if $keeps }}
{{- include "jitney.allow" (list .rules "batch|jobs" (list "patch")) }}
{{- include "jitney.allow" (list .rules "|pods" (list "patch")) }}
{{- end }}
{{- if (.of.template_from | default dict).pod_template }}
{{- include "jitney.allow" (list .rules "|podtemplates" (list "get")) }}
{{- end }}
{{- end }}

{{/* Copies of a template, which go by themselves; and for `jitney doctor` what is left of quotas. */}}
{{- define "jitney.fleet" -}}
{{- include "jitney.allow" (list .rules "batch|jobs" (list "create" "list")) }}
{{- include "jitney.allow" (list .rules "|pods" (list "list")) }}
{{- include "jitney.allow" (list .rules "|events" (list "list")) }}
{{- include "jitney.allow" (list .rules "|resourcequotas" (list "list")) }}
{{- $from := .of.template_from | default dict }}
{{- include "jitney.allow" (list .rules (ternary "|podtemplates" "batch|jobs" (hasKey $from "pod_template")) (list "get")) }}
{{- end }}

{{- define "jitney.allow" -}}
{{- $rules := index . 0 }}
{{- $what := index . 1 }}
{{- $_ := set $rules $what (concat (get $rules $what | default list) (index . 2) | uniq | sortAlpha) }}
{{- end }}
