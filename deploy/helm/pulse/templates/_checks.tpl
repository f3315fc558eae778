{{/* What a schema cannot say, or not in a sentence. Included by the first template that is rendered. */}}
{{- define "pulse.checks" -}}
{{- $values := .Values }}
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

{{/* Seconds from the order to stop until the last attempt or request has had its time, and 10 to commit the rest. */}}
{{- define "pulse.stopSeconds" -}}
{{- if eq .service "ingest" -}}
{{ add (include "pulse.preStopSeconds" .) 12 10 }}
{{- else if eq .service "ingestMqtt" -}}
{{ add 12 10 }}
{{- else if eq .service "delivery" -}}
{{ add .values.delivery.drainSeconds 2 10 }}
{{- else -}}
10
{{- end }}
{{- end }}

{{/* The HTTP edge goes on serving until nobody is sent to it any more. */}}
{{- define "pulse.preStopSeconds" -}}5{{- end }}
