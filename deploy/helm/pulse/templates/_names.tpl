{{- define "pulse.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* At most 40 characters: a Job's name, with what is added below, must stay under 63. */}}
{{- define "pulse.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "pulse.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "pulse.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Of one component: (dict "root" $ "component" "router"). These never change: a Deployment's selector cannot. */}}
{{- define "pulse.selectorLabels" -}}
app.kubernetes.io/name: {{ include "pulse.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "pulse.labels" -}}
{{ include "pulse.selectorLabels" . }}
app.kubernetes.io/part-of: pulse
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "pulse.image" -}}
{{- printf "%s/pulse-%s:%s" (trimSuffix "/" .root.Values.image.registry) .image (.root.Values.image.tag | default .root.Chart.AppVersion) }}
{{- end }}

{{/* What a service's values are called: the component ingest-mqtt has ingestMqtt. */}}
{{- define "pulse.valuesKey" -}}
{{- if eq . "ingest-mqtt" }}ingestMqtt{{ else }}{{ . }}{{ end }}
{{- end }}
