{{- define "hippo.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "hippo.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride }}
{{- else if contains (include "hippo.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "hippo.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Takes a list: the root, and the component. */}}
{{- define "hippo.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "hippo.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "hippo.labels" -}}
{{- $root := index . 0 -}}
{{ include "hippo.selectorLabels" . }}
app.kubernetes.io/part-of: hippo
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "hippo.operator" -}}
{{ include "hippo.fullname" . }}-operator
{{- end }}

{{- define "hippo.minio" -}}
{{ include "hippo.fullname" . }}-minio
{{- end }}

{{- define "hippo.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "hippo.operator" .) }}
{{- end }}

{{/* The operator's identity in the store's locks. */}}
{{- define "hippo.identity" -}}
{{- .Values.identity | default (printf "%s.%s" .Release.Namespace (include "hippo.fullname" .)) }}
{{- end }}

{{- define "hippo.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- .Values.image.repository }}{{ ternary "@" ":" (hasPrefix "sha256:" $tag) }}{{ $tag }}
{{- end }}

{{/* Not empty: studies may be in the release's own namespace. */}}
{{- define "hippo.ownNamespace" -}}
{{- with .Values.stagePods.allow }}{{ if .ownNamespace }}true{{ end }}{{ end }}
{{- end }}

{{/* -- the store -- */}}

{{- define "hippo.store.url" -}}
{{- if and .Values.minio.enabled (not .Values.store.url) -}}
s3://{{ .Values.minio.bucket }}/studies
{{- else -}}
{{- .Values.store.url | default "" }}
{{- end }}
{{- end }}

{{- define "hippo.store.endpoint" -}}
{{- if .Values.minio.enabled -}}
http://{{ include "hippo.minio" . }}.{{ .Release.Namespace }}.svc:9000
{{- else -}}
{{- .Values.store.endpoint | default "" }}
{{- end }}
{{- end }}

{{/* The port of its address. */}}
{{- define "hippo.store.port" -}}
{{- $endpoint := include "hippo.store.endpoint" . | default "https://s3" -}}
{{- $host := (urlParse $endpoint).host -}}
{{- if regexMatch ":[0-9]+$" $host -}}
{{- regexFind "[0-9]+$" $host }}
{{- else -}}
{{- ternary 80 443 (hasPrefix "http://" $endpoint) }}
{{- end }}
{{- end }}

{{/* Name of the Secret with the operator's keys; empty if there is none. */}}
{{- define "hippo.store.secret" -}}
{{- if .Values.minio.enabled -}}
{{ include "hippo.minio" . }}
{{- else if .Values.store.existingSecret -}}
{{ .Values.store.existingSecret }}
{{- else if .Values.store.accessKey -}}
{{ include "hippo.operator" . }}-store
{{- end }}
{{- end }}

{{/* Name of the ConfigMap with certificates to trust; empty if there is none. */}}
{{- define "hippo.store.ca" -}}
{{- if .Values.store.ca.configMap -}}
{{ .Values.store.ca.configMap }}
{{- else if .Values.store.ca.pem -}}
{{ include "hippo.operator" . }}-store-ca
{{- end }}
{{- end }}

{{/* Equal in all templates of a rendering, and in all renderings with a cluster. */}}
{{- define "hippo.minio.password" -}}
{{- if .Values.minio.rootPassword -}}
{{- .Values.minio.rootPassword }}
{{- else -}}
{{- if not (hasKey .Values.minio "madePassword") -}}
{{- $secret := lookup "v1" "Secret" .Release.Namespace (include "hippo.minio" .) | default dict -}}
{{- $kept := dig "data" "AWS_SECRET_ACCESS_KEY" "" $secret | b64dec -}}
{{- $_ := set .Values.minio "madePassword" ($kept | default (randAlphaNum 40)) -}}
{{- end -}}
{{- .Values.minio.madePassword }}
{{- end }}
{{- end }}

{{/* The data of a Secret with the keys that the chart knows; a file that --set-file reads ends with a
line break, which is no part of a key. */}}
{{- define "hippo.store.keys" -}}
{{- if .Values.minio.enabled -}}
AWS_ACCESS_KEY_ID: {{ .Values.minio.rootUser | trim | b64enc }}
AWS_SECRET_ACCESS_KEY: {{ include "hippo.minio.password" . | trim | b64enc }}
{{- else -}}
AWS_ACCESS_KEY_ID: {{ .Values.store.accessKey | trim | b64enc }}
AWS_SECRET_ACCESS_KEY: {{ .Values.store.secretKey | trim | b64enc }}
{{- end }}
{{- end }}

{{/* Environment of containers that use the store. */}}
{{- define "hippo.store.env" -}}
{{- with include "hippo.store.endpoint" . -}}
- {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
{{ end }}
{{- with .Values.store.region -}}
- {name: AWS_REGION, value: {{ . | quote }}}
{{ end }}
{{- with .Values.store.patience -}}
- {name: HIPPO_S3_PATIENCE, value: {{ . | quote }}}
{{ end }}
{{- if include "hippo.store.ca" . -}}
- {name: AWS_CA_BUNDLE, value: /etc/hippo/store/ca.crt}
{{ end }}
{{- with include "hippo.store.secret" . -}}
- name: AWS_ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ . }}, key: AWS_ACCESS_KEY_ID}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ . }}, key: AWS_SECRET_ACCESS_KEY}}
- name: AWS_SESSION_TOKEN
  valueFrom: {secretKeyRef: {name: {{ . }}, key: AWS_SESSION_TOKEN, optional: true}}
{{ end }}
{{- end }}

{{- define "hippo.store.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if include "hippo.store.ca" . }}
- {name: store-ca, mountPath: /etc/hippo/store, readOnly: true}
{{- end }}
{{- end }}

{{- define "hippo.store.volumes" -}}
- {name: tmp, emptyDir: {}}
{{- with include "hippo.store.ca" . }}
- {name: store-ca, configMap: {name: {{ . }}}}
{{- end }}
{{- end }}

{{/* -- invalid values that the schema cannot refuse, each with a remedy -- */}}

{{- define "hippo.validate" -}}
{{- if eq (toString .Values.enabled) "false" }}
{{- fail "enabled: false leaves out nothing by itself: give the parent chart's dependency the condition hippo.enabled" }}
{{- end }}
{{- if not .Values.image.repository }}
{{- fail "image.repository is missing: say where you have pushed the operator's image" }}
{{- end }}
{{- if and .Values.minio.enabled (or .Values.store.endpoint .Values.store.existingSecret .Values.store.accessKey .Values.store.ambientCredentials) }}
{{- fail "minio.enabled brings its own endpoint and keys: remove those of store, or turn it off" }}
{{- end }}
{{- if not (include "hippo.store.url" .) }}
{{- fail "store.url is missing: give s3://bucket/prefix, or set minio.enabled for a store to try Hippo with" }}
{{- end }}
{{- if and .Values.minio.enabled (ne (urlParse (include "hippo.store.url" .)).host .Values.minio.bucket) }}
{{- fail "store.url names another bucket than minio.bucket: leave it empty" }}
{{- end }}
{{- if ne (empty .Values.store.accessKey) (empty .Values.store.secretKey) }}
{{- fail "store.accessKey and store.secretKey go together: set both, or neither" }}
{{- end }}
{{- if and .Values.store.existingSecret .Values.store.accessKey }}
{{- fail "store.existingSecret and store.accessKey are two ways to give the same keys: choose one" }}
{{- end }}
{{- if and .Values.store.ambientCredentials (or .Values.store.existingSecret .Values.store.accessKey) }}
{{- fail "store.ambientCredentials means that there are no keys: remove existingSecret and accessKey" }}
{{- end }}
{{- if not (or (include "hippo.store.secret" .) .Values.store.ambientCredentials) }}
{{- fail "the store's keys are missing: set store.existingSecret, or accessKey and secretKey, or ambientCredentials" }}
{{- end }}
{{- if and .Values.store.namespaces (not (or .Values.minio.enabled .Values.store.accessKey)) }}
{{- fail "store.namespaces needs keys that the chart knows (store.accessKey and secretKey): make the Secrets hippo-store yourself instead" }}
{{- end }}
{{- if and .Values.store.ca.configMap .Values.store.ca.pem }}
{{- fail "store.ca.configMap and store.ca.pem are two ways to give the same certificates: choose one" }}
{{- end }}
{{- if not (include "hippo.ownNamespace" .) }}
{{- range $value, $namespaces := dict "watchNamespaces" .Values.watchNamespaces "store.namespaces" .Values.store.namespaces }}
{{- if has $.Release.Namespace ($namespaces | default list) }}
{{- fail (printf "%s names the release's own namespace, where the operator's keys lie: give studies another one, or set stagePods.allow.ownNamespace" $value) }}
{{- end }}
{{- end }}
{{- end }}
{{- if not (or .Values.serviceAccount.create .Values.serviceAccount.name) }}
{{- fail "serviceAccount.name is missing: say which one to use, or let the chart make it" }}
{{- end }}
{{- end }}
