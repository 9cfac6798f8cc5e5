{{/* The container, for gateway and sidecar. `form`: gateway, native or classic. */}}
{{- define "paraf.container" -}}
name: paraf
image: {{ include "paraf.image" . | quote }}
imagePullPolicy: {{ .values.image.pullPolicy }}
args: [{{ ternary "demo" "serve" .values.sandbox.enabled }}, -c, /etc/paraf/paraf.yaml]
{{- if eq .form "native" }}
restartPolicy: Always
{{- end }}
{{- with .values.env }}
env:
  {{- range $name, $from := . }}
  - name: {{ $name }}
    valueFrom:
      secretKeyRef:
        name: {{ $from.secret }}
        key: {{ $from.key }}
  {{- end }}
{{- end }}
ports:
  {{- if eq .form "gateway" }}
  - name: paraf
    containerPort: {{ int .values.ports.callers }}
  {{- end }}
  - name: paraf-admin
    containerPort: {{ int .values.ports.admin }}
{{ include "paraf.probe" (dict "name" "startup" "path" "/startupz" "period" 1 "failures" 60 "port" .values.ports.admin) }}
{{ include "paraf.probe" (dict "name" "readiness" "path" "/readyz" "period" 5 "failures" 1 "port" .values.ports.admin) }}
{{ include "paraf.probe" (dict "name" "liveness" "path" "/livez" "period" 10 "failures" 3 "port" .values.ports.admin) }}
resources:
  {{- toYaml .values.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  capabilities:
    drop: [ALL]
  readOnlyRootFilesystem: true
  {{- if .values.runAsUser }}
  runAsGroup: {{ int .values.runAsUser }}
  runAsUser: {{ int .values.runAsUser }}
  {{- end }}
  runAsNonRoot: true
  seccompProfile:
    type: RuntimeDefault
volumeMounts:
  - name: paraf-config
    mountPath: /etc/paraf
    readOnly: true
  - name: paraf-run
    mountPath: /run/paraf
  {{- if .values.existingSecret }}
  - name: paraf-secret
    mountPath: /run/secrets/paraf
    readOnly: true
  {{- end }}
  {{- range $name, $_ := .values.existingSecrets }}
  - name: paraf-secret-{{ $name }}
    mountPath: /run/secrets/{{ $name }}
    readOnly: true
  {{- end }}
  {{- range $name, $_ := .values.csi }}
  - name: paraf-csi-{{ $name }}
    mountPath: /run/secrets/{{ $name }}
    readOnly: true
  {{- end }}
  {{- with .values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "paraf.probe" -}}
{{ .name }}Probe:
  httpGet:
    path: {{ .path }}
    port: {{ int .port }}
  periodSeconds: {{ .period }}
  failureThreshold: {{ .failures }}
{{- end }}

{{/*
Volumes. Kubernetes gives the files of Secrets to root: in a gateway an fsGroup lets us read them; a sidecar cannot ask
for one, since it is the whole pod's, so there their mode is 0444. Only our container mounts them.
*/}}
{{- define "paraf.podVolumes" -}}
{{- $mode := ternary 288 292 (eq .form "gateway") -}}
- name: paraf-config
  configMap:
    name: {{ include "paraf.configMapName" . }}
- name: paraf-run
  emptyDir:
    medium: Memory
    sizeLimit: 16Mi
{{- with .values.existingSecret }}
- name: paraf-secret
  secret:
    secretName: {{ . }}
    defaultMode: {{ $mode }}
{{- end }}
{{- range $name, $secret := .values.existingSecrets }}
- name: paraf-secret-{{ $name }}
  secret:
    secretName: {{ $secret }}
    defaultMode: {{ $mode }}
{{- end }}
{{- range $name, $csi := .values.csi }}
- name: paraf-csi-{{ $name }}
  csi:
    readOnly: true
    {{- toYaml $csi | nindent 4 }}
{{- end }}
{{- with .values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "paraf.podAnnotations" -}}
{{- if .values.existingConfigMap -}}
paraf/config-map: {{ .values.existingConfigMap }}
{{- else -}}
paraf/config-checksum: {{ include "paraf.config" . | sha256sum | trunc 16 | quote }}
{{- end -}}
{{- end }}
