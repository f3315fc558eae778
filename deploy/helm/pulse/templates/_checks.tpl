{{/* What a schema cannot say, or not in a sentence. Included by the first template that is rendered. */}}
{{- define "pulse.checks" -}}
{{- include "pulse.checkForms" .Values }}
{{- include "pulse.checkTogether" .Values }}
{{- end }}

{{/* Forms of single values: a schema would answer with a pattern. Nothing is repeated that may hold a password. */}}
{{- define "pulse.checkForms" -}}
{{- $server := "(nats|tls|ws|wss)://[^@,\\s]+" }}
{{- if and .nats.url (not (regexMatch (printf "^%s(,%s)*$" $server $server) .nats.url)) }}
{{- fail "nats.url is not a list of servers, as in nats://nats:4222 or tls://nats-0.nats:4222,tls://nats-1.nats:4222: the schemes are nats, tls, ws and wss, and user and password do not belong into it, they come from the Secrets" }}
{{- end }}
{{- if not (regexMatch "^([^:/]+(:[0-9]+)?(/[^:]+)*)?$" .image.registry) }}
{{- fail (printf "image.registry is %q: give registry and path without a scheme and a tag, as in registry.example.com/team" .image.registry) }}
{{- end }}
{{- range $service, $name := .secrets }}
{{- include "pulse.checkSecretName" (list (printf "secrets.%s" $service) $name) }}
{{- end }}
{{- range $index, $name := .image.pullSecrets }}
{{- include "pulse.checkSecretName" (list (printf "image.pullSecrets[%d]" $index) $name) }}
{{- end }}
{{- range $index, $entry := .extraEnv }}
{{- if regexMatch "^(PULSE_|DELIVERY_WORKER_COUNT$)" $entry.name }}
{{- fail (printf "extraEnv[%d].name is %s: Pulse's own variables are values of this chart or come from the Secrets (README.md)" $index $entry.name) }}
{{- end }}
{{- end }}
{{- range $value, $ranges := dict "delivery.egressAllow" .delivery.egressAllow "networkPolicy.notPublic" .networkPolicy.notPublic }}
{{- range $index, $range := $ranges }}
{{- if not (regexMatch "^[0-9A-Fa-f:.]+/[0-9]{1,3}$" $range) }}
{{- fail (printf "%s[%d] is %q, not a range of addresses, as in 10.0.0.0/8 or 10.0.0.1/32" $value $index $range) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $value, $url := dict "otlpEndpoint" .otlpEndpoint "keda.prometheusAddress" .keda.prometheusAddress }}
{{- if not (regexMatch "^(https?://\\S+)?$" $url) }}
{{- fail (printf "%s is %q, not an address, as in http://host:4318" $value $url) }}
{{- end }}
{{- end }}
{{- if regexMatch "[/+#]" .ingestMqtt.shareGroup }}
{{- fail (printf "ingestMqtt.shareGroup is %q: the name of a group has no /, + and #" .ingestMqtt.shareGroup) }}
{{- end }}
{{- if not (regexMatch "^[0-9]+(ms|s|m)$" (toString .serviceMonitor.interval)) }}
{{- fail (printf "serviceMonitor.interval is %v: give a number and its unit (ms, s or m), as in 15s" .serviceMonitor.interval) }}
{{- end }}
{{- end }}

{{- define "pulse.checkSecretName" -}}
{{- if not (regexMatch "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$" (index . 1)) }}
{{- fail (printf "%s is not what a Secret can be called (lower-case letters, digits, - and .): give the name of one that exists, never its content" (index . 0)) }}
{{- end }}
{{- end }}

{{/* Values that are right each, but not together. */}}
{{- define "pulse.checkTogether" -}}
{{- $values := . }}
{{- if not $values.image.registry }}
{{- fail "image.registry is not set: name the registry and path that hold pulse-ingest, pulse-router, pulse-delivery and pulse-cli, as in registry.example.com/team" }}
{{- end }}
{{- if not $values.nats.url }}
{{- fail "nats.url is not set: say where the NATS servers are, as in nats://nats:4222" }}
{{- end }}
{{- with $values.ingestMqtt }}
{{- if .enabled }}
{{- if not .host }}
{{- fail "ingestMqtt.host is not set, although ingestMqtt.enabled is true: name your MQTT broker" }}
{{- end }}
{{- if and (gt (int .replicas) 1) (not .shareGroup) }}
{{- fail (printf "ingestMqtt.replicas is %d without ingestMqtt.shareGroup: each replica would receive, and store, every message. Set a group if your broker keeps shared subscriptions durably (docs/operating/broker.md), else leave one replica" (int .replicas)) }}
{{- end }}
{{- if and .shareGroup (ne .protocol "5") }}
{{- fail (printf "ingestMqtt.shareGroup needs ingestMqtt.protocol \"5\", not %q: MQTT 3.1.1 has no shared subscriptions" .protocol) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $service := list "ingest" "router" "delivery" }}
{{- with (index $values $service).autoscaling }}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) }}
{{- fail (printf "%s.autoscaling.minReplicas is %d, more than maxReplicas, which is %d" $service (int .minReplicas) (int .maxReplicas)) }}
{{- end }}
{{- if and .enabled (ne $service "ingest") (not $values.keda.prometheusAddress) }}
{{- fail (printf "keda.prometheusAddress is not set, although %s.autoscaling.enabled is true: KEDA asks Prometheus how much there is to do, as in http://prometheus.monitoring:9090" $service) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $service := list "ingest" "ingestMqtt" "router" "delivery" }}
{{- $grace := int (index $values $service).terminationGracePeriodSeconds }}
{{- $stop := include "pulse.stopSeconds" (dict "values" $values "service" $service) | int }}
{{- if le $grace $stop }}
{{- fail (printf "%s.terminationGracePeriodSeconds is %d, not more than the %d s that an orderly stop may take: what is in flight would be cut off" $service $grace $stop) }}
{{- end }}
{{- end }}
{{- end }}

{{/*
Seconds from the order to stop until the service has surely ended, as it says itself at its start (`stops_within_s` of
`service_started`): requests or attempts in flight have their time, then 12 s for all that only has to be closed.
*/}}
{{- define "pulse.stopSeconds" -}}
{{- if eq .service "ingest" -}}
{{ add (include "pulse.preStopSeconds" .) 12 12 }}
{{- else if eq .service "ingestMqtt" -}}
{{ add 12 12 }}
{{- else if eq .service "delivery" -}}
{{ add .values.delivery.drainSeconds 2 12 }}
{{- else -}}
{{ add 2 12 }}
{{- end }}
{{- end }}

{{/* The HTTP edge goes on serving until nobody is sent to it any more. */}}
{{- define "pulse.preStopSeconds" -}}5{{- end }}
