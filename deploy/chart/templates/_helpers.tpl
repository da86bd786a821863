{{- define "quarry.namespace" -}}
{{ .Values.namespace.name | default .Release.Namespace }}
{{- end }}

{{- /* Whether the controller sends claims of copies to the nodes of their sources: where it makes the volumes, and there are copies. */ -}}
{{- define "quarry.sendsClaims" -}}
{{- if and .Values.snapshots.enabled (not .Values.provisioner.nodeDeployment) }}true{{ end -}}
{{- end }}

{{- /* Called with (list . "controller") or (list . "node"). */ -}}
{{- define "quarry.selector" -}}
app.kubernetes.io/name: quarry
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "quarry.labels" -}}
{{ include "quarry.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
{{- end }}

{{- /* Called with (list . "provisioner") and the like. */ -}}
{{- define "quarry.image" -}}
{{- $image := index (index . 0).Values.images (index . 1) -}}
{{- if $image.digest -}}
{{ printf "%s@%s" $image.repository $image.digest | quote }}
{{- else -}}
{{ printf "%s:%s" $image.repository ($image.tag | default (index . 0).Chart.AppVersion) | quote }}
{{- end -}}
{{- end }}

{{- /* The names of the Secrets with the certificates, in which --tls-secrets believes. */ -}}
{{- define "quarry.tlsSecret" -}}
{{- $role := index . 1 -}}
{{- with (index . 0).Values.tls -}}
{{- if eq .source "secrets" }}{{ index .secrets $role }}{{ else }}quarry-{{ $role }}-tls{{ end -}}
{{- end -}}
{{- end }}

{{- /* What a certificate says its holder is: node.DRIVER or controller.DRIVER. No addresses: they change. */ -}}
{{- define "quarry.tlsName" -}}
{{ index . 1 }}.{{ (index . 0).Values.driverName }}
{{- end }}

{{- /* Everything that can be dropped. */ -}}
{{- define "quarry.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- /* For a sidecar on a node: as little as there is, but root, whose sockets they are, and with the one SELinux type
       that may use what a privileged container made. Without SELinux the type means nothing. */ -}}
{{- define "quarry.confinedBesideNode" -}}
{{ include "quarry.confined" . }}
runAsUser: 0
seccompProfile:
  type: RuntimeDefault
seLinuxOptions:
  type: spc_t
{{- end }}

{{- /* The capabilities of a node, with which csi-sanity passes for each file system and for block volumes:
       sys_admin: mount, device-mapper; sys_resource: growing a mounted ext4, lvm's own limits; sys_nice, ipc_lock: lvm
       hurries and stays in memory while a device is suspended; mknod: lvm's device nodes; dac_override,
       dac_read_search: the folders of pods that run as anybody. With lvm.onHost those that entering the namespaces of
       another process takes. */ -}}
{{- define "quarry.nodeCapabilities" -}}
+sys_admin,+sys_resource,+sys_nice,+ipc_lock,+mknod,+dac_override,+dac_read_search
{{- if .Values.lvm.onHost }},+sys_chroot,+sys_ptrace{{ end }}
{{- end }}
