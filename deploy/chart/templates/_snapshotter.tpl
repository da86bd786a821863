{{- /* csi-snapshotter, always beside the controller: on nodes it would need a snapshot-controller that is told of that, and
       could not make groups. */ -}}
{{- define "quarry.snapshotter" -}}
- name: snapshotter
  image: {{ include "quarry.image" (list . "snapshotter") }}
  imagePullPolicy: {{ .Values.images.pullPolicy }}
  args:
  - --csi-address=/csi/csi.sock
  - --leader-election
  - --feature-gates=CSIVolumeGroupSnapshot={{ .Values.snapshots.groups }}
  - --timeout=60s
  # So that what waits for a deletion, or for room, goes on soon after; the default is 5 minutes.
  - --retry-interval-max=30s
  - --kube-api-qps=20
  - --kube-api-burst=40
  {{- if .Values.metrics.enabled }}
  - --http-endpoint=:8082
  ports:
  - {name: snapshotter, containerPort: 8082}
  {{- end }}
{{- end }}

{{- /* No Secrets: the driver needs none. It does not see the claims' own VolumeSnapshots; those are snapshot-controller's. */ -}}
{{- define "quarry.snapshotterClusterRules" -}}
- apiGroups: [snapshot.storage.k8s.io]
  resources: [volumesnapshotclasses]
  verbs: [get, list, watch]
- apiGroups: [snapshot.storage.k8s.io]
  resources: [volumesnapshotcontents]
  verbs: [get, list, watch, patch]
- apiGroups: [snapshot.storage.k8s.io]
  resources: [volumesnapshotcontents/status]
  verbs: [update, patch]
{{- if .Values.snapshots.groups }}
- apiGroups: [groupsnapshot.storage.k8s.io]
  resources: [volumegroupsnapshotclasses]
  verbs: [get, list, watch]
- apiGroups: [groupsnapshot.storage.k8s.io]
  resources: [volumegroupsnapshotcontents]
  verbs: [get, list, watch, patch]
- apiGroups: [groupsnapshot.storage.k8s.io]
  resources: [volumegroupsnapshotcontents/status]
  verbs: [update, patch]
{{- end }}
- apiGroups: [""]
  resources: [events]
  verbs: [create, patch]
{{- end }}
