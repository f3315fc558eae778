{{/*
The pod of a service: (dict "root" $ "component" "ingest" "image" "ingest" "secrets" (list …) "podName" "PULSE_…").
"secrets" are lists of a variable, a Secret's key and, if it may be missing, "optional"; "podName" is a variable that
is to hold the pod's own name.
*/}}
{{- define "pulse.pod" -}}
{{- $root := .root }}
{{- $values := index $root.Values (include "pulse.valuesKey" .component) }}
metadata:
  labels:
    {{- include "pulse.labels" . | nindent 4 }}
  annotations:
    # A changed setting restarts the pods: settings are read once, at start.
    checksum/config: {{ include "pulse.settings" . | sha256sum }}
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "pulse.fullname" $root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with $root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
  securityContext:
    {{- include "pulse.podSecurity" . | nindent 4 }}
  containers:
    - name: {{ .image }}
      image: {{ include "pulse.image" . }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      envFrom:
        - configMapRef:
            name: {{ include "pulse.fullname" $root }}-{{ .component }}
      env:
        {{- include "pulse.secretEnv" (dict "name" (index $root.Values.secrets .image) "secrets" .secrets) | nindent 8 }}
        {{- with .podName }}
        - name: {{ . }}
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        {{- end }}
        {{- include "pulse.trustEnv" $root | nindent 8 }}
        {{- with $root.Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: admin
          containerPort: 9000
        {{- if eq .image "ingest" }}
        - name: http
          containerPort: 8080
        {{- end }}
      {{- include "pulse.probes" . | nindent 6 }}
      {{- if eq .component "ingest" }}
      lifecycle:
        preStop:
          sleep:
            seconds: {{ include "pulse.preStopSeconds" . }}
      {{- end }}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      securityContext:
        {{- include "pulse.containerSecurity" . | nindent 8 }}
      volumeMounts:
        {{- include "pulse.mounts" $root | nindent 8 }}
  volumes:
    {{- include "pulse.volumes" $root | nindent 4 }}
  {{- with $values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    {{- if $values.topologySpreadConstraints }}
    {{- toYaml $values.topologySpreadConstraints | nindent 4 }}
    {{- else }}
    {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - maxSkew: 1
      topologyKey: {{ $key }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "pulse.selectorLabels" $ | nindent 10 }}
    {{- end }}
    {{- end }}
{{- end }}

{{/* /health says only that the event loop turns; what a service depends on belongs to /ready. */}}
{{- define "pulse.probes" -}}
startupProbe:
  httpGet: { path: /health, port: admin }
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 30
livenessProbe:
  httpGet: { path: /health, port: admin }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: { path: /ready, port: admin }
  periodSeconds: 5
  timeoutSeconds: 2
  failureThreshold: 2
{{- end }}

{{- define "pulse.secretEnv" -}}
{{- $name := .name }}
{{- range .secrets }}
- name: {{ index . 0 }}
  valueFrom:
    secretKeyRef:
      name: {{ $name }}
      key: {{ index . 1 }}
      {{- if gt (len .) 2 }}
      optional: true
      {{- end }}
{{- end }}
{{- end }}

{{- define "pulse.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "pulse.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "pulse.trustEnv" -}}
{{- if .Values.trust.configMap }}
- name: SSL_CERT_FILE
  value: /etc/pulse/trust/{{ .Values.trust.key }}
{{- end }}
{{- end }}

{{- define "pulse.mounts" -}}
- name: tmp
  mountPath: /tmp
{{- if .Values.trust.configMap }}
- name: trust
  mountPath: /etc/pulse/trust
  readOnly: true
{{- end }}
{{- end }}

{{- define "pulse.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: 16Mi
{{- with .Values.trust }}
{{- if .configMap }}
- name: trust
  configMap:
    name: {{ .configMap }}
{{- end }}
{{- end }}
{{- end }}
