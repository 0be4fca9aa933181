{{- define "sluice.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 50 characters: the longest suffix is "-webhook", and a Service's name has 63. */}}
{{- define "sluice.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "sluice.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "sluice.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "sluice.selector" -}}
app.kubernetes.io/name: {{ include "sluice.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "sluice.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "sluice.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: sluice
{{- end -}}

{{- define "sluice.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "sluice.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* An image reference of (dict "image" … "version" …). */}}
{{- define "sluice.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (default .version .image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Where sidecars find the broker, one HOST:PORT per line. */}}
{{- define "sluice.brokers" -}}
{{- if .Values.broker.addresses -}}
{{- join "\n" .Values.broker.addresses -}}
{{- else -}}
{{- printf "%s-broker.%s.svc:%v" (include "sluice.fullname" .) .Release.Namespace .Values.broker.port -}}
{{- end -}}
{{- end -}}

{{/* What the operator's certificate is made out to, one name per line. */}}
{{- define "sluice.certificateNames" -}}
{{- $names := list -}}
{{- range $address := splitList "\n" (include "sluice.brokers" .) -}}
{{- $names = append $names (regexReplaceAll ":[0-9]+$" $address "" | trimPrefix "[" | trimSuffix "]") -}}
{{- end -}}
{{- if .Values.webhook.url -}}
{{- $names = append $names ((urlParse .Values.webhook.url).hostname | trimPrefix "[" | trimSuffix "]") -}}
{{- else -}}
{{- $names = append $names (printf "%s-webhook.%s.svc" (include "sluice.fullname" .) .Release.Namespace) -}}
{{- end -}}
{{- join "\n" (uniq $names) -}}
{{- end -}}

{{/* What the operator reads of a namespace to get at credentials. */}}
{{- define "sluice.credentialRules" -}}
# By name only: it can't list them.
- apiGroups: [""]
  resources: [secrets, configmaps]
  verbs: [get]
{{- if .Values.workloadIdentity.enabled }}
- apiGroups: [""]
  resources: [serviceaccounts/token]
  verbs: [create]
{{- end }}
{{- end -}}
