{{/* The settings of a component that are no secrets, as a ConfigMap's data. Names: docs/reference/settings.md */}}
{{- define "pulse.settings" -}}
{{- $values := .root.Values -}}
PULSE_NATS_URL: {{ $values.nats.url | quote }}
PULSE_NATS_USER: {{ .image | quote }}
PULSE_ADMIN_HOST: {{ $values.bindAddress | quote }}
PULSE_ADMIN_PORT: "9000"
PULSE_LOG_LEVEL: {{ $values.logLevel | quote }}
PULSE_LOG_FORMAT: json
PULSE_TRACE_RATIO: {{ $values.traceRatio | quote }}
{{- with $values.otlpEndpoint }}
OTEL_EXPORTER_OTLP_ENDPOINT: {{ . | quote }}
{{- end }}
{{- if eq .image "ingest" }}
PULSE_HTTP_HOST: {{ $values.bindAddress | quote }}
PULSE_HTTP_PORT: "8080"
PULSE_MESSAGE_ID_RETENTION_DAYS: {{ $values.ingest.messageIdRetentionDays | quote }}
{{- end }}
{{- if eq .component "ingest-mqtt" }}
{{- with $values.ingestMqtt }}
PULSE_MQTT_HOST: {{ .host | quote }}
PULSE_MQTT_PORT: {{ .port | quote }}
PULSE_MQTT_USER: {{ .user | quote }}
PULSE_MQTT_PROTOCOL: {{ .protocol | quote }}
PULSE_MQTT_SHARE_GROUP: {{ .shareGroup | quote }}
PULSE_MQTT_TLS: {{ .tls | quote }}
{{- end }}
{{- end }}
{{- if eq .component "delivery" }}
{{- with $values.delivery }}
PULSE_DELIVERY_WORKER_COUNT: {{ .workerCount | quote }}
# Each process takes its share of what may be unacknowledged and of the routes' rates, so it must know of the most there
# can be, not of how many there are now.
PULSE_DELIVERY_REPLICAS: {{ ternary .autoscaling.maxReplicas .replicas .autoscaling.enabled | quote }}
PULSE_SIDING_SHARE: {{ .sidingShare | quote }}
PULSE_SIDING_CONSUMERS: {{ .sidingConsumers | quote }}
PULSE_EGRESS_ALLOW: {{ join "," .egressAllow | quote }}
PULSE_DRAIN_S: {{ .drainSeconds | quote }}
PULSE_MQTT_HOST: {{ .mqtt.host | quote }}
PULSE_MQTT_PORT: {{ .mqtt.port | quote }}
PULSE_MQTT_USER: {{ .mqtt.user | quote }}
{{- end }}
{{- end }}
{{- end }}
