{{/* The version of Paraf: in a merchant's chart .Chart is the merchant's. */}}
{{- define "paraf.version" -}}0.1.0{{- end }}

{{/*
What every template below takes is a dict: `root`, the context, and `values`, this chart's. Made here of either chart's
context: in a merchant's chart our values stand under `paraf`, or under the alias that `values` names.
*/}}
{{- define "paraf.fullname" -}}
{{- $name := .root.Release.Name -}}
{{- if .values.fullnameOverride -}}
{{- .values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains "paraf" $name -}}
{{- $name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-paraf" (trunc 57 $name) -}}
{{- end -}}
{{- end }}

{{- define "paraf.image" -}}
{{- printf "%s:%s" .values.image.repository (.values.image.tag | default (include "paraf.version" .)) -}}
{{- end }}

{{- define "paraf.selectorLabels" -}}
app.kubernetes.io/name: paraf
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{- define "paraf.labels" -}}
{{ include "paraf.selectorLabels" . }}
app.kubernetes.io/version: {{ include "paraf.version" . | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{/* "true" for a gateway: as an application of its own yes, as a part of another chart no, unless told. */}}
{{- define "paraf.isGateway" -}}
{{- $enabled := .values.gateway.enabled -}}
{{- if eq (toString $enabled) "auto" -}}
{{- if .root.Chart.IsRoot -}}true{{- end -}}
{{- else if $enabled -}}true{{- end -}}
{{- end }}

{{- define "paraf.serviceAccountName" -}}
{{- $account := .values.gateway.serviceAccount -}}
{{- if $account.create -}}
{{- $account.name | default (include "paraf.fullname" .) -}}
{{- else -}}
{{- $account.name | default "default" -}}
{{- end -}}
{{- end }}
