{{/* The program that the runtime starts for each container. Its configuration comes later, from the agent. */}}
{{- define "weft.installer" -}}
- name: install-cni
  {{- include "weft.imageOfContainer" . | nindent 2 }}
  command: [/usr/bin/weft-cni]
  args: [install, --plugin-only, --bin-dir, /host/opt/cni/bin]
  securityContext:
    {{- include "weft.confined" . | nindent 4 }}
    capabilities:
      drop: [ALL]
  volumeMounts:
    - name: cni-bin
      mountPath: /host/opt/cni/bin
{{- end }}

{{/* In place of it before the chart is removed: the configuration goes first, then the program. */}}
{{- define "weft.uninstaller" -}}
- name: uninstall-cni
  {{- include "weft.imageOfContainer" . | nindent 2 }}
  command: [/usr/bin/weft-cni]
  args:
    - uninstall
    - --bin-dir
    - /host/opt/cni/bin
    - --conf-dir
    - /host/etc/cni/net.d
    - --conf-name
    - {{ .Values.cni.confName }}
  securityContext:
    {{- include "weft.confined" . | nindent 4 }}
    capabilities:
      drop: [ALL]
  volumeMounts:
    - name: cni-bin
      mountPath: /host/opt/cni/bin
    - name: cni-conf
      mountPath: /host/etc/cni/net.d
{{- end }}

{{/* weftd: namespaces, devices, and all frames. */}}
{{- define "weft.daemon" -}}
- name: daemon
  {{- include "weft.imageOfContainer" . | nindent 2 }}
  command: [/usr/bin/weftd]
  args:
    - --config
    - /etc/weft/weftd.toml
    # What the daemon mounts must outlive its container.
    - --mounts
    - /proc/1/ns/mnt
    {{- with .Values.daemon.extraArgs }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  env:
    # For `weft status` and `weft connectivity` in this container.
    - name: WEFT_AGENT
      value: http://127.0.0.1:{{ int .Values.agent.healthPort }}
    {{- with .Values.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  securityContext:
    {{- include "weft.confined" . | nindent 4 }}
    {{- if semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version }}
    # AppArmor's usual profile forbids mounts, whatever the capabilities.
    appArmorProfile:
      type: Unconfined
    {{- end }}
    capabilities:
      drop: [ALL]
      add:
        {{- toYaml .Values.daemon.capabilities | nindent 8 }}
  # All probes ask the daemon over its socket, so they tell of it alone: not of the agent, nor of the API server.
  startupProbe:
    exec:
      command: [/usr/bin/weft, status]
    periodSeconds: 2
    timeoutSeconds: 5
    failureThreshold: 60
  livenessProbe:
    exec:
      command: [/usr/bin/weft, status]
    periodSeconds: 20
    timeoutSeconds: 10
    failureThreshold: 3
  readinessProbe:
    exec:
      command: [/usr/bin/weft, status]
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 3
  {{- with .Values.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  volumeMounts:
    - name: config
      mountPath: /etc/weft
      readOnly: true
    - name: state
      mountPath: /var/lib/weft
    # What the node mounts below these two is seen at once. Bidirectional, so that the node sees the daemon's mounts,
    # is for privileged containers alone (the API server refuses it elsewhere): the daemon mounts on the node itself.
    - name: run
      mountPath: /run/weft
      mountPropagation: HostToContainer
    - name: netns
      mountPath: /run/netns
      mountPropagation: HostToContainer
    - name: tun
      mountPath: /dev/net/tun
    {{- with .Values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{/* weft-agent: makes the daemon do what the cluster wants. */}}
{{- define "weft.agent" -}}
- name: agent
  {{- include "weft.imageOfContainer" . | nindent 2 }}
  command: [/usr/bin/weft-agent]
  args:
    - run
    - --config
    - /etc/weft/agent.toml
    {{- with .Values.extraArgs }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  env:
    - name: NODE_NAME
      valueFrom:
        fieldRef:
          fieldPath: spec.nodeName
    {{- with .Values.k8sServiceHost }}
    - name: KUBERNETES_SERVICE_HOST
      value: {{ . | quote }}
    - name: KUBERNETES_SERVICE_PORT
      value: {{ $.Values.k8sServicePort | quote }}
    {{- end }}
    {{- with .Values.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  securityContext:
    {{- include "weft.confined" . | nindent 4 }}
    capabilities:
      drop: [ALL]
      {{- if .Values.agent.probe }}
      # To enter the network namespace of its probe.
      add: [SYS_ADMIN]
      {{- end }}
  {{- if .Values.metrics.enabled }}
  ports:
    - name: metrics
      containerPort: {{ .Values.metrics.port }}
      hostPort: {{ .Values.metrics.port }}
      protocol: TCP
  {{- end }}
  startupProbe:
    httpGet: {host: 127.0.0.1, port: {{ .Values.agent.healthPort }}, path: /startupz}
    periodSeconds: 2
    timeoutSeconds: 5
    failureThreshold: 150
  livenessProbe:
    httpGet: {host: 127.0.0.1, port: {{ .Values.agent.healthPort }}, path: /livez}
    periodSeconds: 20
    timeoutSeconds: 5
    failureThreshold: 3
  readinessProbe:
    httpGet: {host: 127.0.0.1, port: {{ .Values.agent.healthPort }}, path: /readyz}
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 3
  {{- with .Values.agent.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  volumeMounts:
    - name: config
      mountPath: /etc/weft
      readOnly: true
    - name: agent-state
      mountPath: /var/lib/weft/agent
    - name: run
      mountPath: /run/weft
    {{- if .Values.agent.probe }}
    - name: netns
      mountPath: /run/netns
      mountPropagation: HostToContainer
      readOnly: true
    {{- end }}
    - name: cni-conf
      mountPath: /etc/cni/net.d
    - name: api-access
      mountPath: /var/run/secrets/kubernetes.io/serviceaccount
      readOnly: true
    {{- with .Values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{- define "weft.volumes" -}}
- name: config
  configMap:
    name: {{ include "weft.fullname" . }}
- name: state
  hostPath: {path: /var/lib/weft, type: DirectoryOrCreate}
- name: run
  hostPath: {path: /run/weft, type: DirectoryOrCreate}
- name: netns
  hostPath: {path: /run/netns, type: DirectoryOrCreate}
- name: tun
  hostPath: {path: /dev/net/tun, type: CharDevice}
- name: cni-bin
  hostPath: {path: {{ .Values.cni.binPath | quote }}, type: DirectoryOrCreate}
- name: cni-conf
  hostPath: {path: {{ .Values.cni.confPath | quote }}, type: DirectoryOrCreate}
- name: agent-state
  hostPath: {path: /var/lib/weft/agent, type: DirectoryOrCreate}
# What a ServiceAccount's volume has, for the agent alone.
- name: api-access
  projected:
    # For root alone: 0400.
    defaultMode: 256
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3607}
      - configMap:
          name: kube-root-ca.crt
          items: [{key: ca.crt, path: ca.crt}]
      - downwardAPI:
          items: [{path: namespace, fieldRef: {apiVersion: v1, fieldPath: metadata.namespace}}]
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
