{{- define "rerank-worker.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Names get endings, and what a CronJob makes gets one more: 40 characters leave room for them in 63. */}}
{{- define "rerank-worker.fullname" -}}
{{- $name := include "rerank-worker.name" . -}}
{{- $joined := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- default $joined .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "rerank-worker.selectorLabels" -}}
app.kubernetes.io/name: {{ include "rerank-worker.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "rerank-worker.labels" -}}
{{ include "rerank-worker.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* What tells workers from the pods of jobs; a selector of workers has this too. */}}
{{- define "rerank-worker.workerLabels" -}}
{{ include "rerank-worker.selectorLabels" . }}
app.kubernetes.io/component: worker
{{- end -}}

{{- define "rerank-worker.indexName" -}}
{{- include "rerank-worker.fullname" . }}-index
{{- end -}}

{{/* Processes of the live index are no workers: they answer nothing. */}}
{{- define "rerank-worker.indexLabels" -}}
{{ include "rerank-worker.selectorLabels" . }}
app.kubernetes.io/component: index
{{- end -}}

{{- define "rerank-worker.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "rerank-worker.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.create is false: set serviceAccount.name to one that exists" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "rerank-worker.image" -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}

{{/* The claim that all pods share, or nothing: then each pod has a volume of its own. */}}
{{- define "rerank-worker.sharedClaim" -}}
{{- $volume := .Values.cache.persistentVolume -}}
{{- if $volume.existingClaim -}}
{{- $volume.existingClaim -}}
{{- else if and $volume.enabled (eq .Values.kind "Deployment") -}}
{{- printf "%s-cache" (include "rerank-worker.fullname" .) -}}
{{- end -}}
{{- end -}}

{{/* Of the cache's claim, in a StatefulSet's template too. */}}
{{- define "rerank-worker.claimSpec" -}}
{{- $volume := .Values.cache.persistentVolume -}}
accessModes:
  {{- $volume.accessModes | default (list (eq .Values.kind "Deployment" | ternary "ReadWriteMany" "ReadWriteOnce")) | toYaml | nindent 2 }}
{{- with $volume.storageClassName }}
storageClassName: {{ . }}
{{- end }}
resources:
  requests:
    storage: {{ $volume.size }}
{{- end -}}
