{{/*
For a chart of your own that has this one among its dependencies. Each takes your context, `.`; under an alias, or with
values of another place, (dict "root" $ "values" .Values.ALIAS).

  paraf.sidecar      a list of one container: below initContainers, first; with `sidecar.native: false` below containers
  paraf.volumes      below volumes
  paraf.annotations  below the pod's annotations: a changed configuration rolls the pods
*/}}
{{- define "paraf.sidecar" -}}
{{- $scope := include "paraf.sidecarScope" . | fromYaml -}}
{{- $values := $scope.values -}}
{{- $form := ternary "native" "classic" $values.sidecar.native -}}
{{- if and $values.sidecar.native (semverCompare "<1.29-0" (.root | default .).Capabilities.KubeVersion.Version) -}}
{{- fail "paraf: this Kubernetes has no native sidecars: set sidecar.native to false, and include it below containers" -}}
{{- end -}}
- {{ include "paraf.container" (dict "root" (.root | default .) "values" $values "form" $form "gateway" "") | nindent 2 | trim }}
{{- end }}

{{- define "paraf.volumes" -}}
{{- $scope := include "paraf.sidecarScope" . | fromYaml -}}
{{- include "paraf.podVolumes" (dict "root" (.root | default .) "values" $scope.values "form" "sidecar" "gateway" "") -}}
{{- end }}

{{- define "paraf.annotations" -}}
{{- $scope := include "paraf.sidecarScope" . | fromYaml -}}
{{- include "paraf.podAnnotations" (dict "root" (.root | default .) "values" $scope.values "form" "sidecar" "gateway" "") -}}
{{- end }}

{{- define "paraf.sidecarScope" -}}
{{- $root := .root | default . -}}
{{- $values := .values | default $root.Values.paraf -}}
{{- if not $values -}}
{{- fail "paraf: no values: name this chart paraf among your dependencies, or give values" -}}
{{- end -}}
{{- toYaml (dict "values" $values) -}}
{{- end }}
