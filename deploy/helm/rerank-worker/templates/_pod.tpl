{{/* A container that runs one command of the worker. Given: root, name, args, and secrets (settings out of Secrets). */}}
{{- define "rerank-worker.container" -}}
{{- $ := .root -}}
name: {{ .name }}
image: {{ include "rerank-worker.image" $ }}
imagePullPolicy: {{ $.Values.image.pullPolicy }}
args: {{ .args | toJson }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
env:
  - name: RERANK_WORKER_CONFIG
    value: /etc/rerank-worker/worker.yaml
  - name: RERANK_WORKER_CACHE_DIR
    value: /cache/rerank-worker
  - name: HF_HOME
    value: /cache/huggingface
  {{- range $setting, $from := .secrets }}
  - name: {{ include "rerank-worker.variable" $setting }}
    valueFrom:
      secretKeyRef:
        name: {{ $from.secret }}
        key: {{ $from.key }}
  {{- end }}
  {{- with .env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with $.Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumeMounts:
  - name: settings
    mountPath: /etc/rerank-worker
    readOnly: true
  - name: cache
    mountPath: /cache
  - name: tmp
    mountPath: /tmp
  {{- if .documents }}
  - name: documents
    mountPath: /documents
    readOnly: true
  {{- end }}
  {{- range $index, $mount := $.Values.mounts }}
  - name: mount-{{ $index }}
    mountPath: {{ $mount.path }}
    readOnly: true
  {{- end }}
{{- end -}}

{{/* One init container a model that the pod loads: a role whose model can't be had ends it with the reason. */}}
{{- define "rerank-worker.fetchModels" -}}
{{- $ := .root -}}
{{- if $.Values.cache.prefetch }}
initContainers:
  {{- range $role := .roles }}
  - {{ dict "root" $ "name" (printf "fetch-%s" $role) "args" (list "models" "--path" $role) "secrets" $.Values.secretSettings | include "rerank-worker.container" | nindent 4 | trim }}
    resources:
      {{- toYaml $.Values.resources | nindent 6 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Whose pod it is and where it may run; the same for workers and jobs. */}}
{{- define "rerank-worker.podIdentity" -}}
serviceAccountName: {{ include "rerank-worker.serviceAccountName" . }}
automountServiceAccountToken: false
# A Service named rerank-worker would put RERANK_WORKER_PORT and more into every pod of the namespace.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  seccompProfile:
    type: RuntimeDefault
  {{- with .Values.podSecurityContext }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* Given: root, and claim (the name of the cache's claim; empty for a volume that ends with the pod). */}}
{{- define "rerank-worker.volumes" -}}
{{- $ := .root -}}
- name: settings
  configMap:
    name: {{ include "rerank-worker.fullname" $ }}
- name: tmp
  emptyDir: {}
{{- if .claim }}
- name: cache
  persistentVolumeClaim:
    claimName: {{ .claim }}
{{- else if not .template }}
- name: cache
  emptyDir:
    sizeLimit: {{ $.Values.cache.sizeLimit }}
{{- end }}
{{- range $index, $mount := $.Values.mounts }}
- name: mount-{{ $index }}
  {{- if $mount.secret }}
  secret:
    secretName: {{ $mount.secret }}
  {{- else }}
  configMap:
    name: {{ $mount.configMap }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* What a worker's pod knows and no other does, as a list. */}}
{{- define "rerank-worker.workerEnv" -}}
# In answers, logs and metrics; and under exactly_once in the transactional id, which a restarted container takes over.
- name: RERANK_WORKER_WORKER_ID
  valueFrom:
    fieldRef: {fieldPath: metadata.name}
{{- if .Values.staticMembership }}
- name: RERANK_WORKER_KAFKA__GROUP_INSTANCE_ID
  valueFrom:
    fieldRef: {fieldPath: metadata.name}
{{- end }}
{{- if and .Values.gpu.enabled (not (dig "rerank" "device" "" .Values.settings)) }}
# Not `auto`: where the GPU is missing the worker is to end, not to be slow.
- name: RERANK_WORKER_RERANK__DEVICE
  value: cuda
{{- end }}
{{- end -}}

{{/* The port of what consumes, a worker or an index process, and the probes that ask it. */}}
{{- define "rerank-worker.telemetry" -}}
ports:
  - name: telemetry
    containerPort: {{ include "rerank-worker.port" . }}
# /live is served before models load and says yes while they do: this waits for Python and torch alone.
startupProbe:
  httpGet: {path: /live, port: telemetry}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: {{ divf .Values.startupTimeoutSeconds 5 | ceil | int }}
# /live itself bears 30 s without a turn of the loop or a poll. Half a minute more and the worker is restarted,
# long before the broker gives up on it (kafka.max_poll_interval_s). One that is stuck hears no SIGTERM and
# drains nothing, so it is not given the time to.
livenessProbe:
  httpGet: {path: /live, port: telemetry}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
  terminationGracePeriodSeconds: 10
# No traffic comes by it: it tells rollouts and the disruption budget that the group has taken the worker in.
readinessProbe:
  httpGet: {path: /ready, port: telemetry}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 3
{{- end -}}

{{/* What a pod of the live index knows and no other does, as a list. */}}
{{- define "rerank-worker.indexEnv" -}}
- name: RERANK_WORKER_WORKER_ID
  valueFrom:
    fieldRef: {fieldPath: metadata.name}
# Else it would be where pairs are scored, which may be a GPU that this pod has none of.
- name: RERANK_WORKER_RECALL__DEVICE
  value: cpu
{{- end -}}
