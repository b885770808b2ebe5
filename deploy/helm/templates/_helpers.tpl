{{- /* The name of the objects: the release's name, with the chart's name unless the release's name contains it. */}}
{{- define "perception-encoder.fullname" -}}
{{- $name := .Release.Name }}
{{- if not (contains .Chart.Name $name) }}
{{- $name = printf "%s-%s" $name .Chart.Name }}
{{- end }}
{{- .Values.fullnameOverride | default $name | trunc 46 | trimSuffix "-" }}
{{- end }}

{{- /* The labels by which pods of a component are selected. Arguments: the root context, the component. */}}
{{- define "perception-encoder.selector" -}}
app.kubernetes.io/name: {{ (index . 0).Chart.Name }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- /* The pods that the Service sends requests to: those of service.release, or those of this release. */}}
{{- define "perception-encoder.serviceSelector" -}}
app.kubernetes.io/name: {{ (index . 0).Chart.Name }}
app.kubernetes.io/instance: {{ (index . 0).Values.service.release | default (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "perception-encoder.labels" -}}
{{- include "perception-encoder.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version | replace "+" "_" }}
{{- end }}

{{- /* An image's name. Arguments: an image of values.yaml, the default tag. */}}
{{- define "perception-encoder.image" -}}
{{ (index . 0).repository }}:{{ (index . 0).tag | default (index . 1) }}
{{- end }}

{{- /* Resources with a limit of GPUs. Arguments: the root context, the resources of values.yaml, the number of GPUs. */}}
{{- define "perception-encoder.resources" -}}
{{- $resources := deepCopy (index . 1) }}
{{- with index . 2 }}
{{- $_ := set $resources "limits" (merge (dict (index $ 0).Values.gpu.resource (toString .)) ($resources.limits | default dict)) }}
{{- end }}
{{- toYaml $resources }}
{{- end }}

{{- /* Where pods may run. Arguments: the root context, the number of GPUs of a pod. */}}
{{- define "perception-encoder.placement" -}}
{{- $values := (index . 0).Values }}
{{- $nodes := deepCopy $values.nodeSelector }}
{{- with $values.placement.gpuProduct }}
{{- $_ := set $nodes "nvidia.com/gpu.product" . }}
{{- end }}
{{- with $values.placement.zone }}
{{- $_ := set $nodes "topology.kubernetes.io/zone" . }}
{{- end }}
{{- $tolerations := $values.tolerations }}
{{- if index . 1 }}
{{- $tolerations = prepend $tolerations (dict "key" "nvidia.com/gpu" "operator" "Exists" "effect" "NoSchedule") }}
{{- end }}
{{- $placement := dict }}
{{- range $key, $value := dict "affinity" $values.affinity "imagePullSecrets" $values.imagePullSecrets "nodeSelector" $nodes "tolerations" $tolerations }}
{{- if $value }}
{{- $_ := set $placement $key $value }}
{{- end }}
{{- end }}
{{- if $placement }}
{{- toYaml $placement }}
{{- end }}
{{- end }}

{{- /* The claim of the volume with the models. */}}
{{- define "perception-encoder.claim" -}}
{{- .Values.volume.existingClaim | default (printf "%s-models" (include "perception-encoder.fullname" .)) }}
{{- end }}
