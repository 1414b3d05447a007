{{/* What of the worker's settings the chart needs too. Their defaults are the worker's: a test compares them. */}}

{{- define "rerank-worker.partitions" -}}
{{- dig "kafka" "partitions" 12 .Values.settings | int -}}
{{- end -}}

{{- define "rerank-worker.port" -}}
{{- dig "telemetry" "port" 9464 .Values.settings | int -}}
{{- end -}}

{{/* Drain and close end a worker by themselves; five seconds more, so that it is never the kubelet that does. */}}
{{- define "rerank-worker.gracePeriod" -}}
{{- $drain := dig "kafka" "drain_timeout_s" 30 .Values.settings -}}
{{- $close := dig "kafka" "close_timeout_s" 15 .Values.settings -}}
{{- addf $drain $close 5 | ceil | int -}}
{{- end -}}

{{/* The environment variable of a setting; what is behind the second dot is a mapping's entry, dots and all. */}}
{{- define "rerank-worker.variable" -}}
{{- $path := splitn "." 3 . -}}
{{- list "RERANK_WORKER" $path._0 | join "_" | upper -}}
{{- with $path._1 }}__{{ upper . }}{{ end -}}
{{- with $path._2 }}__{{ upper . }}{{ end -}}
{{- end -}}

{{/* The port of an address such as http://host:8080/path. */}}
{{- define "rerank-worker.urlPort" -}}
{{- $url := urlParse . -}}
{{- regexFind ":[0-9]+$" $url.host | trimPrefix ":" | default (eq $url.scheme "https" | ternary "443" "80") -}}
{{- end -}}

{{/* Combinations of values that can't work, refused with what to set instead, as the worker does with its settings. */}}
{{- define "rerank-worker.check" -}}
{{- $partitions := include "rerank-worker.partitions" . | int -}}
{{- if eq (dig "recall" "mode" "server" .Values.settings) "embedded" -}}
{{- fail "settings.recall.mode is embedded, whose folder belongs to one process: run a Chroma server and set recall.host" -}}
{{- end -}}
{{- if and .Values.staticMembership (ne .Values.kind "StatefulSet") -}}
{{- fail "staticMembership needs kind StatefulSet: a Deployment's pods get new names, and partitions would wait for the old" -}}
{{- end -}}
{{- if and .Values.keda.enabled (gt (int (.Values.keda.maxReplicas | default 0)) $partitions) -}}
{{- fail (printf "keda.maxReplicas is above the %d partitions of settings.kafka.partitions: further workers would have none" $partitions) -}}
{{- end -}}
{{- if and .Values.index.enabled .Values.index.keda.enabled (gt (int (.Values.index.keda.maxReplicas | default 0)) $partitions) -}}
{{- fail (printf "index.keda.maxReplicas is above the %d partitions of settings.kafka.partitions: further processes would have none" $partitions) -}}
{{- end -}}
{{- if and .Values.ingest.enabled (not .Values.ingest.volume) -}}
{{- fail "ingest.enabled without ingest.volume: name the volume that has the documents" -}}
{{- end -}}
{{- range .Values.mounts -}}
{{- if eq (empty .secret) (empty .configMap) -}}
{{- fail (printf "mounts has %s: set one of secret and configMap" .path) -}}
{{- end -}}
{{- end -}}
{{- end -}}
