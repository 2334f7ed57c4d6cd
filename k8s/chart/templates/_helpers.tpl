{{- /* The value of app.kubernetes.io/name. */}}
{{- define "irsa-sidecar.name" -}}
{{- .Values.nameOverride | default "irsa-sidecar" }}
{{- end }}

{{- /* The name of objects in the release's namespace. A Service must not be named `irsa-sidecar…` (see values.yaml). */}}
{{- define "irsa-sidecar.fullname" -}}
{{- .Values.fullnameOverride | default "webhook" }}
{{- end }}

{{- /* The name of the MutatingWebhookConfiguration. */}}
{{- define "irsa-sidecar.configurationName" -}}
{{- .Values.fullnameOverride | default "irsa-sidecar" }}
{{- end }}

{{- /* The name of roles, bindings, the priority class and the Secret that the webhook writes. */}}
{{- define "irsa-sidecar.clusterName" -}}
{{- include "irsa-sidecar.configurationName" . }}-webhook
{{- end }}

{{- define "irsa-sidecar.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "irsa-sidecar.fullname" .) }}
{{- end }}

{{- /* Labels that select the webhook's Pods. They never change. */}}
{{- define "irsa-sidecar.selectorLabels" -}}
app.kubernetes.io/name: {{ include "irsa-sidecar.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: {{ .Values.injection }}
{{- end }}

{{- /* Labels of every object. */}}
{{- define "irsa-sidecar.labels" -}}
{{- $standard := dict
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_")
  "app.kubernetes.io/version" (.Chart.AppVersion | quote | trimAll "\"")
  "app.kubernetes.io/managed-by" .Release.Service
  "app.kubernetes.io/part-of" "irsa-sidecar" }}
{{- merge (include "irsa-sidecar.selectorLabels" . | fromYaml) $standard .Values.commonLabels | toYaml }}
{{- end }}

{{- /* Metadata of an object: (list $ NAME) or (list $ NAME DICT), where DICT may have namespaced, labels, annotations. */}}
{{- define "irsa-sidecar.metadata" -}}
{{- $root := index . 0 }}
{{- $more := dict }}
{{- if gt (len .) 2 }}{{ $more = index . 2 }}{{ end -}}
name: {{ index . 1 | quote }}
{{- if dig "namespaced" true $more }}
namespace: {{ $root.Release.Namespace | quote }}
{{- end }}
labels: {{- merge (include "irsa-sidecar.labels" $root | fromYaml) (dig "labels" dict $more) | toYaml | nindent 2 }}
{{- with merge (dict) (dig "annotations" dict $more) $root.Values.commonAnnotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* REPOSITORY:TAG@DIGEST of (dict "image" IMAGE "repository" DEFAULT "tag" DEFAULT). A digest needs no tag. */}}
{{- define "irsa-sidecar.reference" -}}
{{- .image.repository | default .repository }}
{{- if or .image.tag (not .image.digest) }}:{{ .image.tag | default .tag }}{{ end }}
{{- with .image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- /* The webhook's image. */}}
{{- define "irsa-sidecar.image" -}}
{{- include "irsa-sidecar.reference" (dict "image" .Values.image "tag" (printf "%s-tools" .Chart.AppVersion)) }}
{{- end }}

{{- /* The sidecar's image. By default it has the repository of the webhook's image. */}}
{{- define "irsa-sidecar.sidecarImage" -}}
{{- include "irsa-sidecar.reference" (dict "image" .Values.sidecar.image "repository" .Values.image.repository "tag" .Chart.AppVersion) }}
{{- end }}

{{- /* The Secret that is mounted. Empty if the webhook keeps a certificate of its own. */}}
{{- define "irsa-sidecar.certificateSecret" -}}
{{- if eq .Values.certificate.from "cert-manager" }}{{ include "irsa-sidecar.fullname" . }}-certificate{{ end }}
{{- if eq .Values.certificate.from "existingSecret" }}{{ .Values.certificate.existingSecret }}{{ end }}
{{- end }}

{{- /* Checks of values that belong together, which a schema cannot explain. */}}
{{- define "irsa-sidecar.check" -}}
{{- if not .Values.region }}
{{- fail "region is empty. Set region to the AWS region whose STS the sidecars call: --set region=eu-west-1." }}
{{- end }}
{{- include "irsa-sidecar.checkPolicy" . }}
{{- if hasPrefix "irsa-sidecar" .Values.fullnameOverride }}
{{- fail (printf "fullnameOverride is %s. Choose a name that does not begin with irsa-sidecar: Kubernetes gives Pods variables with a Service's name, and the sidecar's settings begin with IRSA_SIDECAR_." .Values.fullnameOverride) }}
{{- end }}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) }}
{{- fail "serviceAccount.create is false and serviceAccount.name is empty. Set serviceAccount.name to an existing ServiceAccount." }}
{{- end }}
{{- range $name, $image := dict "image" .Values.image "sidecar.image" .Values.sidecar.image }}
{{- if regexMatch ":[^/]*$" (default "" $image.repository) }}
{{- fail (printf "%s.repository is %s: it contains a tag or a digest. Set %s.tag or %s.digest instead." $name $image.repository $name $name) }}
{{- end }}
{{- end }}
{{- with .Values.certificate }}
{{- if contains "PRIVATE KEY" (default "" .caBundle) }}
{{- fail "certificate.caBundle contains a private key, which everybody who can read the MutatingWebhookConfiguration would see. Set certificate.caBundle to the certificate of the CA only." }}
{{- end }}
{{- if and (eq .from "existingSecret") (not (and .existingSecret .caBundle)) }}
{{- fail "certificate.from is existingSecret. Set certificate.existingSecret to the Secret's name, and certificate.caBundle to the PEM of the CA that signed it." }}
{{- end }}
{{- if and (ne .from "existingSecret") (or .existingSecret .caBundle) }}
{{- fail (printf "certificate.existingSecret and certificate.caBundle have no effect while certificate.from is %s. Remove them, or set certificate.from to existingSecret." .from) }}
{{- end }}
{{- if and (ne .from "cert-manager") .issuerRef }}
{{- fail (printf "certificate.issuerRef has no effect while certificate.from is %s. Remove it, or set certificate.from to cert-manager." .from) }}
{{- end }}
{{- if and .issuerRef (not .issuerRef.name) }}
{{- fail "certificate.issuerRef has no name. Set it to the name of an Issuer or ClusterIssuer, and set its kind." }}
{{- end }}
{{- end }}
{{- with .Values.podDisruptionBudget }}
{{- if not (or (kindIs "invalid" .maxUnavailable) (kindIs "invalid" .minAvailable)) }}
{{- fail (printf "podDisruptionBudget.maxUnavailable is %v and podDisruptionBudget.minAvailable is %v: Kubernetes accepts only one. Set the other one to null." .maxUnavailable .minAvailable) }}
{{- end }}
{{- end }}
{{- if include "irsa-sidecar.certificateSecret" . }}
{{- range .Values.extraVolumes }}
{{- if eq .name "certificate" }}
{{- fail "extraVolumes has a volume named certificate, which is the name of the chart's own volume. Choose another name." }}
{{- end }}
{{- end }}
{{- end }}
{{- include "irsa-sidecar.checkNetwork" . }}
{{- include "irsa-sidecar.checkArguments" . }}
{{- end }}

{{- /* Checks of values that policies do not support. */}}
{{- define "irsa-sidecar.checkPolicy" -}}
{{- if eq .Values.injection "policy" }}
{{- if semverCompare "<1.36.0-0" .Capabilities.KubeVersion.Version }}
{{- fail (printf "injection is policy, which needs Kubernetes 1.36, and the cluster has %s. Set injection to webhook." .Capabilities.KubeVersion.Version) }}
{{- end }}
{{- if eq .Values.sidecar.native "never" }}
{{- fail "sidecar.native is never, but policies add native sidecars only. Set injection to webhook, or sidecar.native to auto." }}
{{- end }}
{{- if eq .Values.failurePolicy "Ignore" }}
{{- fail "failurePolicy is Ignore, which has no meaning while injection is policy, because policies cannot be down. Set failurePolicy to Fail." }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Checks of extraArgs: the last of two equal flags applies, but other objects would still use the chart's value. */}}
{{- define "irsa-sidecar.checkArguments" -}}
{{- $values := dict
  "--listen" "ports.https instead, because the Service uses it"
  "--admin-listen" "ports.admin instead, because probes and monitoring use it"
  "--log-level" "logLevel instead"
  "--image" "sidecar.image instead"
  "--region" "region instead"
  "--native-sidecars" "sidecar.native instead"
  "--sidecar-resources" "sidecar.resources instead"
  "--configuration" "fullnameOverride instead, because the rights of the webhook contain the name"
  "--secret" "fullnameOverride instead, because the rights of the webhook contain the name"
  "--certificate-file" "certificate.from instead"
  "--key-file" "certificate.from instead" }}
{{- range $argument := .Values.extraArgs }}
{{- with get $values (splitList "=" $argument | first) }}
{{- fail (printf "extraArgs has %s. Set %s." $argument .) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Checks of ports and of the nodes' network. `helm template` has no cluster, so it cannot check the namespace. */}}
{{- define "irsa-sidecar.checkNetwork" -}}
{{- if eq (int .Values.ports.https) (int .Values.ports.admin) }}
{{- fail (printf "ports.https and ports.admin are both %d. Set different ports." (int .Values.ports.https)) }}
{{- end }}
{{- if .Values.hostNetwork }}
{{- range $name, $port := .Values.ports }}
{{- if has (int $port) (list 10248 10249 10250 10256) }}
{{- fail (printf "ports.%s is %d, where kubelet or kube-proxy listen on every node. Choose another port while hostNetwork is true." $name (int $port)) }}
{{- end }}
{{- end }}
{{- $namespace := lookup "v1" "Namespace" "" .Release.Namespace }}
{{- $level := dig "metadata" "labels" "pod-security.kubernetes.io/enforce" "privileged" $namespace }}
{{- if ne $level "privileged" }}
{{- fail (printf "namespace %s enforces the Pod Security Standard %s, which rejects Pods with hostNetwork. Run: kubectl label --overwrite namespace %s pod-security.kubernetes.io/enforce=privileged" .Release.Namespace $level .Release.Namespace) }}
{{- end }}
{{- end }}
{{- end }}
