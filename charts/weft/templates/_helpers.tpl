{{/* The chart's name, in labels. */}}
{{- define "weft.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of all objects. */}}
{{- define "weft.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride }}
{{- else if contains (include "weft.name" .) .Release.Name }}
{{- .Release.Name | trunc 53 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "weft.name" .) | trunc 53 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* What selects this release's pods. It must never change: a DaemonSet's selector cannot. */}}
{{- define "weft.selector" -}}
app.kubernetes.io/name: {{ include "weft.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "weft.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "weft.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "weft.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "weft.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* The image. A digest says which one better than a tag does. */}}
{{- define "weft.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* What carries packets from node to node. Values that contradict each other are an error: nobody shall believe that
packets are encrypted when they are not. */}}
{{- define "weft.tunnelMode" -}}
{{- $mode := .Values.tunnel.mode }}
{{- if and .Values.encryption.enabled $mode (ne $mode "wireguard") }}
{{- fail (printf "encryption.enabled is true and tunnel.mode is %q, which does not encrypt: set encryption.enabled to false, or tunnel.mode to \"wireguard\"" $mode) }}
{{- end }}
{{- if and (not .Values.encryption.enabled) (eq $mode "wireguard") }}
{{- fail "encryption.enabled is false and tunnel.mode is \"wireguard\", which always encrypts: set encryption.enabled to true, or tunnel.mode to \"vxlan\" or \"routes\"" }}
{{- end }}
{{- $mode | default (ternary "wireguard" "vxlan" .Values.encryption.enabled) }}
{{- end }}

{{/* Other values that contradict each other. */}}
{{- define "weft.check" -}}
{{- if and (eq .Values.ipam.mode "node") .Values.ipam.pools }}
{{- fail "ipam.mode is \"node\" and ipam.pools is not empty: set ipam.mode to \"pools\", or leave ipam.pools out" }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled (not .Values.metrics.enabled) }}
{{- fail "metrics.serviceMonitor.enabled is true and metrics.enabled is false: there would be nothing to read" }}
{{- end }}
{{- if and .Values.metrics.enabled (eq (int .Values.metrics.port) (int .Values.agent.healthPort)) }}
{{- fail (printf "metrics.port and agent.healthPort are both %d: give them different ports" (int .Values.metrics.port)) }}
{{- end }}
{{- end }}

{{/* An address with a port, IPv6 in brackets. */}}
{{- define "weft.metricsAddress" -}}
{{- $address := .Values.metrics.address }}
{{- printf "%s:%d" (ternary (printf "[%s]" $address) $address (contains ":" $address)) (int .Values.metrics.port) }}
{{- end }}

{{/* What every container has: nothing to gain rights by, and nothing to write on but its mounts. */}}
{{- define "weft.confined" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsUser: 0
runAsGroup: 0
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "weft.imageOfContainer" -}}
image: {{ include "weft.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end }}
