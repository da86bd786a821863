{{- /* Called with (list . PART COMPONENT): binds the cluster's role of PART to the pods of COMPONENT. */ -}}
{{- define "quarry.clusterRoleBinding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ include "quarry.clusterRole" . }}
  labels:
    {{- include "quarry.labels" (list (index . 0) (index . 2)) | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ include "quarry.clusterRole" . }}
{{ include "quarry.subjects" . }}
{{- end }}

{{- define "quarry.roleBinding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: quarry-{{ index . 1 }}
  namespace: {{ include "quarry.namespace" (index . 0) }}
  labels:
    {{- include "quarry.labels" (list (index . 0) (index . 2)) | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: quarry-{{ index . 1 }}
{{ include "quarry.subjects" . }}
{{- end }}

{{- define "quarry.subjects" -}}
subjects:
- kind: ServiceAccount
  name: quarry-{{ index . 2 }}
  namespace: {{ include "quarry.namespace" (index . 0) }}
{{- end }}

{{- /* Cluster-wide names begin with the driver's, so that two drivers in one cluster do not meet. */ -}}
{{- define "quarry.clusterRole" -}}
{{ (index . 0).Values.driverName }}:{{ index . 1 }}
{{- end }}
