{{- /* Labels by which the webhook's Pods are selected: these never change. */}}
{{- define "irsa-sidecar.selector" -}}
app.kubernetes.io/name: irsa-sidecar
app.kubernetes.io/component: webhook
{{- end }}

{{- /* Of every object. */}}
{{- define "irsa-sidecar.labels" -}}
{{- merge (include "irsa-sidecar.selector" . | fromYaml) .Values.commonLabels | toYaml }}
{{- end }}

{{- /* REPOSITORY:TAG@DIGEST of a repository, a tag and a digest. A digest is enough; a default tag beside it might lie. */}}
{{- define "irsa-sidecar.reference" -}}
{{- .repository }}
{{- if or .tag (not .digest) }}:{{ .tag | default .defaultTag }}{{ end }}
{{- with .digest }}@{{ . }}{{ end }}
{{- end }}

{{- /* The sidecar's image. */}}
{{- define "irsa-sidecar.image" -}}
{{- include "irsa-sidecar.reference" (merge (dict "defaultTag" .Chart.AppVersion) .Values.image) }}
{{- end }}

{{- /* The webhook's own image. By default it has the repository of the sidecar's image. */}}
{{- define "irsa-sidecar.webhookImage" -}}
{{- $tag := printf "%s-tools" (.Values.image.tag | default .Chart.AppVersion) }}
{{- $own := .Values.webhookImage }}
{{- $repository := $own.repository | default .Values.image.repository }}
{{- include "irsa-sidecar.reference" (dict "repository" $repository "tag" $own.tag "digest" $own.digest "defaultTag" $tag) }}
{{- end }}

{{- /* The Secret that is mounted; empty where the webhook keeps a certificate of its own. */}}
{{- define "irsa-sidecar.certificateSecret" -}}
{{- if eq .Values.certificate.from "cert-manager" }}webhook-certificate{{ end }}
{{- if eq .Values.certificate.from "existingSecret" }}{{ .Values.certificate.existingSecret }}{{ end }}
{{- end }}

{{- /* What no schema says in a sentence: values that mean something together only. */}}
{{- define "irsa-sidecar.check" -}}
{{- with .Values.certificate }}
{{- if and (eq .from "existingSecret") (not (and .existingSecret .caBundle)) }}
{{- fail "certificate.from is existingSecret: give certificate.existingSecret, the Secret's name, and certificate.caBundle, who signed it, in PEM." }}
{{- end }}
{{- if and (ne .from "existingSecret") (or .existingSecret .caBundle) }}
{{- fail (printf "certificate.existingSecret and certificate.caBundle are not for certificate.from %s: leave them out, or set certificate.from to existingSecret." .from) }}
{{- end }}
{{- if and (ne .from "cert-manager") .issuerRef }}
{{- fail (printf "certificate.issuerRef is not for certificate.from %s: leave it out, or set certificate.from to cert-manager." .from) }}
{{- end }}
{{- if and .issuerRef (not .issuerRef.name) }}
{{- fail "certificate.issuerRef has no name: give the name of an Issuer or ClusterIssuer, and its kind." }}
{{- end }}
{{- end }}
{{- include "irsa-sidecar.checkNetwork" . }}
{{- end }}

{{- /* Which ports, on whose network. Of its namespace, only a cluster knows: not `helm template`. */}}
{{- define "irsa-sidecar.checkNetwork" -}}
{{- if eq (int .Values.ports.https) (int .Values.ports.admin) }}
{{- fail (printf "ports.https and ports.admin are both %d: give each a port of its own." (int .Values.ports.https)) }}
{{- end }}
{{- range .Values.extraArgs }}
{{- if regexMatch "^--(admin-)?listen(=|$)" . }}
{{- fail (printf "extraArgs has %s: set ports.https or ports.admin, by which Service, probes and monitoring go too." .) }}
{{- end }}
{{- end }}
{{- if .Values.hostNetwork }}
{{- range $name, $port := .Values.ports }}
{{- if has (int $port) (list 10248 10249 10250 10256) }}
{{- fail (printf "ports.%s is %d, where kubelet or kube-proxy listen on every node: with hostNetwork, choose another." $name (int $port)) }}
{{- end }}
{{- end }}
{{- $namespace := lookup "v1" "Namespace" "" .Release.Namespace }}
{{- $level := dig "metadata" "labels" "pod-security.kubernetes.io/enforce" "privileged" $namespace }}
{{- if ne $level "privileged" }}
{{- fail (printf "namespace %s enforces the Pod Security Standard %s, which refuses Pods with hostNetwork: kubectl label --overwrite namespace %s pod-security.kubernetes.io/enforce=privileged" .Release.Namespace $level .Release.Namespace) }}
{{- end }}
{{- end }}
{{- end }}
