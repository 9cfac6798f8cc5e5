{{/* Seconds that listeners stay open after SIGTERM: until balancers have noticed, or while a classic app still calls. */}}
{{- define "paraf.drainDelay" -}}
{{- $delay := .values.drain.delay -}}
{{- if ne (toString $delay) "auto" -}}
{{- $delay -}}
{{- else if eq .gateway "true" -}}5
{{- else if .values.sidecar.native -}}0
{{- else -}}10
{{- end -}}
{{- end }}

{{/* paraf.yaml. Callers reach a sidecar on loopback alone; probes come from the kubelet, from outside the pod. */}}
{{- define "paraf.config" -}}
{{- $bind := ternary .values.bind "127.0.0.1" (eq .gateway "true") -}}
{{- $set := dict
      "version" 1
      "listen" (printf "%s:%d" $bind (int .values.ports.callers))
      "admin" (printf "%s:%d" .values.bind (int .values.ports.admin))
      "control" "unix:/run/paraf/control.sock"
      "drain" (dict "delay" (printf "%ss" (include "paraf.drainDelay" .)) "timeout" (printf "%ds" (int .values.drain.timeout)))
-}}
{{- toYaml (merge $set (deepCopy .values.config)) -}}
{{- end }}

{{- define "paraf.configMapName" -}}
{{- .values.existingConfigMap | default (include "paraf.fullname" .) -}}
{{- end }}

{{/* What can be told without a schema, in words that say what to do. */}}
{{- define "paraf.validate" -}}
{{- $sources := 0 -}}
{{- range list .values.existingConfigMap .values.config.routes .values.sandbox.enabled -}}
{{- if . -}}{{- $sources = add1 $sources -}}{{- end -}}
{{- end -}}
{{- if ne (int $sources) 1 -}}
{{- fail "paraf: set one of config.routes, existingConfigMap and sandbox.enabled" -}}
{{- end -}}
{{- if eq .gateway "true" -}}
{{- $policy := .values.gateway.networkPolicy -}}
{{- if $policy.enabled -}}
{{- if and (eq (include "paraf.usesRedis" .) "true") (not $policy.redis) -}}
{{- fail "paraf: gateway.networkPolicy.redis must name your Redis, or it could not be reached" -}}
{{- end -}}
{{- if and (or .values.monitoring.serviceMonitor.enabled .values.monitoring.podMonitor.enabled) (not $policy.monitoring) -}}
{{- fail "paraf: gateway.networkPolicy.monitoring must name your Prometheus, or it could not reach /metrics" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "paraf.store" -}}
{{- $store := .values.config.store | default "memory" -}}
{{- if kindIs "map" $store -}}{{- $store.url -}}{{- else -}}{{- $store -}}{{- end -}}
{{- end }}

{{- define "paraf.usesRedis" -}}
{{- if regexMatch "^rediss?://" (include "paraf.store" .) -}}true{{- end -}}
{{- end }}

{{/* "true" when two of these processes would end each other's tokens. */}}
{{- define "paraf.mustBeAlone" -}}
{{- if not (regexMatch "^(rediss?://|unix:)" (include "paraf.store" .)) -}}
{{- range .values.config.routes -}}
{{- if has .provider (list "netzme" "netzme-main" "netzme-vsnap") -}}true{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}
