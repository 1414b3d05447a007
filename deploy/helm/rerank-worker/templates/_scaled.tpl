{{/* Scales by a group's lag. Given: root, name, kind (of what is scaled), group, topic, and replicas (minReplicas,
maxReplicas, lagThreshold). How KEDA looks and logs in is the same for all. */}}
{{- define "rerank-worker.scaled" -}}
{{- $ := .root -}}
{{- $kafka := $.Values.settings.kafka -}}
{{- $protocol := $kafka.security_protocol | default "plaintext" -}}
{{- $auth := $.Values.keda.secretTargetRef -}}
{{- $sasl := "" -}}
{{- if hasPrefix "sasl_" $protocol -}}
{{- $sasl = get (dict "PLAIN" "plaintext" "SCRAM-SHA-256" "scram_sha256" "SCRAM-SHA-512" "scram_sha512") ($kafka.sasl_mechanism | default "") | required "keda knows settings.kafka.sasl_mechanism PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512 here: for another one write a ScaledObject of your own" -}}
{{- range $parameter, $setting := dict "username" "kafka.sasl_username" "password" "kafka.sasl_password" -}}
{{- $from := get $.Values.secretSettings $setting | required (printf "keda logs in to Kafka too: give %s in secretSettings" $setting) -}}
{{- $auth = append $auth (dict "parameter" $parameter "name" $from.secret "key" $from.key) -}}
{{- end -}}
{{- end -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ .name }}
  labels:
    {{- include "rerank-worker.labels" $ | nindent 4 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: {{ .kind }}
    name: {{ .name }}
  minReplicaCount: {{ .replicas.minReplicas }}
  maxReplicaCount: {{ .replicas.maxReplicas | default (include "rerank-worker.partitions" $) }}
  pollingInterval: {{ $.Values.keda.pollingIntervalSeconds }}
  cooldownPeriod: {{ $.Values.keda.cooldownSeconds }}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        # Every change moves partitions: up in strides, down one at a time and not for a lull.
        scaleUp:
          stabilizationWindowSeconds: 0
          policies:
            - {type: Percent, value: 100, periodSeconds: 60}
            - {type: Pods, value: 2, periodSeconds: 60}
        scaleDown:
          stabilizationWindowSeconds: 300
          policies:
            - {type: Pods, value: 1, periodSeconds: 60}
  triggers:
    - type: kafka
      metadata:
        bootstrapServers: {{ $kafka.bootstrap_servers | quote }}
        consumerGroup: {{ .group | quote }}
        topic: {{ .topic | quote }}
        lagThreshold: {{ .replicas.lagThreshold | default $kafka.max_in_flight | default 256 | int | quote }}
        offsetResetPolicy: {{ $kafka.auto_offset_reset | default "earliest" | quote }}
        version: {{ $.Values.keda.kafkaVersion | quote }}
        {{- with $sasl }}
        sasl: {{ . }}
        {{- end }}
        {{- if hasSuffix "ssl" $protocol }}
        tls: enable
        {{- end }}
      {{- if $auth }}
      authenticationRef:
        name: {{ .name }}
      {{- end }}
{{- if $auth }}
---
apiVersion: keda.sh/v1alpha1
kind: TriggerAuthentication
metadata:
  name: {{ .name }}
  labels:
    {{- include "rerank-worker.labels" $ | nindent 4 }}
spec:
  secretTargetRef:
    {{- toYaml $auth | nindent 4 }}
{{- end }}
{{- end -}}
