{{- /* external-provisioner, beside the controller or (provisioner.nodeDeployment) beside each node. */ -}}
{{- define "quarry.provisioner" -}}
- name: provisioner
  image: {{ include "quarry.image" (list . "provisioner") }}
  imagePullPolicy: {{ .Values.images.pullPolicy }}
  # No --default-fstype: it would overrule the file system of the class. fsGroup works without (fsGroupPolicy: File).
  args:
  - --csi-address=/csi/csi.sock
  {{- if .Values.provisioner.nodeDeployment }}
  - --node-deployment
  # Fewer at once than centrally: one machine's lvm does one change after the other.
  - --worker-threads=10
  # The capacity objects belong to the pod, so they go with the node.
  - --capacity-ownerref-level=0
  {{- else }}
  - --leader-election
  # With Immediate binding no node is named; the controller then takes the one with the most room.
  - --immediate-topology=false
  # The capacity objects belong to the Deployment (pod, ReplicaSet, Deployment), so they outlive the leader.
  - --capacity-ownerref-level=2
  # One capacity object for each node and StorageClass. The defaults (one at a time, one write a second) would take
  # half an hour for 1000 nodes with two classes.
  - --capacity-threads=8
  - --kube-api-capacity-qps=20
  - --kube-api-capacity-burst=40
  # A volume takes several requests; the default of 5 a second would allow for about 4 volumes a second.
  - --kube-api-qps=50
  - --kube-api-burst=100
  {{- end }}
  # A volume lies on the node that the scheduler chose, or nowhere; if it has no room, the scheduler chooses again.
  - --strict-topology
  # What lets the scheduler choose by room.
  - --enable-capacity
  - --capacity-poll-interval={{ .Values.provisioner.capacityPollInterval }}
  # The claim's namespace and name become a tag of the volume, for people.
  - --extra-create-metadata
  # In a burst calls wait for each other in the node; a call given up too early is made again and waits again.
  - --timeout=60s
  # So that all goes on soon after an outage; the default is 5 minutes.
  - --retry-interval-max=30s
  {{- if .Values.snapshots.enabled }}
  # How soon a snapshot can be deleted that was held for a volume which was there already; the default is 5 minutes.
  - --snapshot-orphan-sweep-interval=30s
  {{- end }}
  {{- if .Values.metrics.enabled }}
  - --http-endpoint=:8080
  ports:
  - {name: provisioner, containerPort: 8080}
  {{- end }}
  env:
  - name: NAMESPACE
    valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
  - name: POD_NAME
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  {{- if .Values.provisioner.nodeDeployment }}
  - name: NODE_NAME
    valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
  {{- end }}
{{- end }}

{{- /* What external-provisioner may do in the whole cluster. No Secrets: the driver needs none. */ -}}
{{- define "quarry.provisionerClusterRules" -}}
- apiGroups: [""]
  resources: [persistentvolumes]
  verbs: [get, list, watch, create, patch, delete]
# Update: to take back the choice of a node that has no room.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, update]
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
- apiGroups: [storage.k8s.io]
  resources: [storageclasses]
  verbs: [get, list, watch]
# Read when a claim names one; the driver then says that it cannot.
- apiGroups: [storage.k8s.io]
  resources: [volumeattributesclasses]
  verbs: [get]
{{- if .Values.snapshots.enabled }}
# Of which snapshot a volume is made. Update, list and watch: to hold its deletion up until the volume is made, and to let
# go of it when the claim is deleted before that.
- apiGroups: [snapshot.storage.k8s.io]
  resources: [volumesnapshots]
  verbs: [get, list, watch, update]
- apiGroups: [snapshot.storage.k8s.io]
  resources: [volumesnapshotcontents]
  verbs: [get]
{{- end }}
{{- if not .Values.provisioner.nodeDeployment }}
# Which nodes there are, and their topology.
- apiGroups: [""]
  resources: [nodes]
  verbs: [get, list, watch]
- apiGroups: [storage.k8s.io]
  resources: [csinodes]
  verbs: [get, list, watch]
{{- end }}
{{- end }}

{{- /* And in its namespace. */ -}}
{{- define "quarry.provisionerRules" -}}
- apiGroups: [storage.k8s.io]
  resources: [csistoragecapacities]
  verbs: [get, list, watch, create, update, patch, delete]
# To find the owner of the capacity objects: from the pod on upwards.
- apiGroups: [""]
  resources: [pods]
  verbs: [get]
{{- if not .Values.provisioner.nodeDeployment }}
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [get]
{{- end }}
{{- end }}
