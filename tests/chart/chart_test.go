// SPDX-License-Identifier: Apache-2.0

// Package chart tests deploy/chart: that deploy/quarry.yaml is its rendering, that wrong values are refused in clear
// words, and that whatever the values, Kubernetes' own types take what comes out, field by field.
package chart

import (
	"bytes"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	groupsnapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumegroupsnapshot/v1"
	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
)

const (
	helm     = "../../scripts/helm"
	chart    = "../../deploy/chart"
	rendered = "../../deploy/quarry.yaml"
)

// Kinds of others, of which no Go type is at hand; they are read by eye and by those who define them.
var foreign = []string{"cert-manager.io/", "monitoring.coreos.com/"}

func TestMain(m *testing.M) {
	for _, add := range []func(*runtime.Scheme) error{snapshotv1.AddToScheme, groupsnapshotv1.AddToScheme} {
		if err := add(scheme.Scheme); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

func run(arguments ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	command := exec.Command(helm, arguments...)
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return stderr.String(), err
	}
	return stdout.String(), nil
}

// template renders the chart with values in the notation of helm's --set.
func template(t *testing.T, values ...string) string {
	t.Helper()
	text, err := run(templating(values)...)
	if err != nil {
		t.Fatalf("%v: %v\n%s", values, err, text)
	}
	return text
}

func templating(values []string) []string {
	arguments := []string{"template", "quarry", chart}
	for _, value := range values {
		arguments = append(arguments, "--set", value)
	}
	return arguments
}

// objects decodes every document strictly: an unknown or doubled field is an error.
func objects(t *testing.T, text string) []runtime.Object {
	t.Helper()
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	var all []runtime.Object
	seen := map[string]bool{}
	for _, document := range strings.Split(text, "\n---\n") {
		if isForeign(document) || !strings.Contains(document, "\nkind: ") {
			continue
		}
		object, kind, err := decoder.Decode([]byte(document), nil, nil)
		if err != nil {
			t.Fatalf("%v\n%s", err, document)
		}
		accessor, err := meta.Accessor(object)
		if err != nil {
			t.Fatal(err)
		}
		name := kind.String() + " " + accessor.GetNamespace() + "/" + accessor.GetName()
		if seen[name] {
			t.Errorf("%s twice", name)
		}
		seen[name] = true
		all = append(all, object)
	}
	return all
}

func isForeign(document string) bool {
	return slices.ContainsFunc(foreign, func(group string) bool {
		return strings.Contains(document, "\napiVersion: "+group) || strings.HasPrefix(document, "apiVersion: "+group)
	})
}

// only returns the objects of one type.
func only[T runtime.Object](all []runtime.Object) []T {
	var found []T
	for _, object := range all {
		if object, ok := object.(T); ok {
			found = append(found, object)
		}
	}
	return found
}

func one[T runtime.Object](t *testing.T, all []runtime.Object) T {
	t.Helper()
	found := only[T](all)
	if len(found) != 1 {
		t.Fatalf("%d objects of type %T", len(found), *new(T))
	}
	return found[0]
}

func pods(t *testing.T, all []runtime.Object) map[string]corev1.PodSpec {
	t.Helper()
	return map[string]corev1.PodSpec{
		"controller": one[*appsv1.Deployment](t, all).Spec.Template.Spec,
		"node":       one[*appsv1.DaemonSet](t, all).Spec.Template.Spec,
	}
}

func container(t *testing.T, pod corev1.PodSpec, name string) corev1.Container {
	t.Helper()
	index := slices.IndexFunc(pod.Containers, func(container corev1.Container) bool { return container.Name == name })
	if index < 0 {
		t.Fatalf("no container %s", name)
	}
	return pod.Containers[index]
}

var settings = map[string][]string{
	"defaults":        nil,
	"lvm of the host": {"lvm.onHost=true"},
	"lvm settings":    {"lvm.settingsFolder=/var/etc/lvm"},
	"a thin class": {"classes[0].name=thin", "classes[0].volumeGroups={nvme}", "classes[0].layout=thin",
		"classes[0].thinPool.size=80%", "classes[0].thinPool.overcommit=2.5", "classes[0].snapshotReserve=1GiB"},
	"node deployment": {"provisioner.nodeDeployment=true"},
	"cert-manager":    {"tls.source=certManager"},
	"an issuer":       {"tls.source=certManager", "tls.certManager.issuer.name=ours", "tls.certManager.issuer.kind=ClusterIssuer"},
	"no snapshots":    {"snapshots.enabled=false"},
	"snapshot classes": {"snapshots.classes[0].name=daily", "snapshots.classes[0].default=true", "snapshots.classes[1].name=kept",
		"snapshots.classes[1].deletionPolicy=Retain", "snapshots.classes[1].annotations.a=b", "snapshots.classes[1].labels.c=d"},
	"no groups": {"snapshots.groups=false"},
	"groups of snapshots": {"snapshots.classes[0].name=daily", "snapshots.groupClasses[0].name=daily",
		"snapshots.groupClasses[0].default=true", "provisioner.nodeDeployment=true"},
	"existing secrets":  {"tls.source=secrets", "tls.secrets.node=node-certificate", "tls.secrets.controller=controller-certificate"},
	"another namespace": {"namespace.name=storage-system"},
	"no namespace":      {"namespace.create=false", "namespace.name="},
	"kubelet elsewhere": {"kubelet.rootFolder=/var/lib/k0s/kubelet"},
	"another driver":    {"driverName=lvm.example.com", "storageClasses[0].name=example"},
	"digests":           {"images.quarry.digest=sha256:" + strings.Repeat("0", 64), "images.pullSecrets={mine}"},
	"monitoring": {"metrics.podMonitor.enabled=true", "metrics.podMonitor.labels.release=prometheus",
		"networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.kubernetes\\.io/metadata\\.name=monitoring"},
	"bare": {"metrics.enabled=false", "networkPolicy.enabled=false", "controller.replicas=1", "storageClasses=null",
		"node.tolerations=null", "node.nodeSelector=null", "log.format=json", "listenAddress=0.0.0.0"},
	"classes": {"classes[0].name=fast", "classes[0].volumeGroups={nvme-*,*}", "classes[0].fileSystem=xfs", "classes[0].mkfsOptions={-i,nrext64=0}",
		"storageClasses[0].name=fast", "storageClasses[0].class=fast", "storageClasses[0].default=true",
		"storageClasses[0].fileSystem=xfs", "storageClasses[0].mountOptions={noatime}",
		"storageClasses[0].reclaimPolicy=Retain", "storageClasses[0].volumeBindingMode=Immediate",
		"storageClasses[0].annotations.a=b", "storageClasses[0].labels.c=d"},
}

func TestQuarryYamlIsTheRendering(t *testing.T) {
	file, err := os.ReadFile(rendered)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(file), "\n") // its first line says where it comes from
	if rest != template(t) {
		t.Error("deploy/quarry.yaml is not what deploy/chart gives: run make manifests")
	}
}

func TestLint(t *testing.T) {
	for name, values := range settings {
		arguments := []string{"lint", "--strict", "--quiet", chart}
		for _, value := range values {
			arguments = append(arguments, "--set", value)
		}
		if text, err := run(arguments...); err != nil {
			t.Errorf("%s: %s", name, text)
		}
	}
}

func TestNotesRender(t *testing.T) {
	for name, values := range settings {
		arguments := append(templating(values), "--dry-run=client")
		arguments[0] = "install"
		if text, err := run(arguments...); err != nil || !strings.Contains(text, "is installed in namespace") {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
}

// What must hold whatever the values.
func TestEverySetting(t *testing.T) {
	for name, values := range settings {
		t.Run(name, func(t *testing.T) {
			all := objects(t, template(t, values...))
			for _, pod := range pods(t, all) {
				for _, container := range pod.Containers {
					checkContainer(t, container)
				}
				checkMounts(t, pod)
			}
			checkRights(t, all)
			if node := pods(t, all)["node"]; *node.AutomountServiceAccountToken {
				t.Error("nodes get a token")
			}
			driver := one[*storagev1.CSIDriver](t, all)
			for _, class := range only[*storagev1.StorageClass](all) {
				if class.Provisioner != driver.Name || !*class.AllowVolumeExpansion {
					t.Errorf("%v", class)
				}
			}
		})
	}
}

func checkContainer(t *testing.T, container corev1.Container) {
	t.Helper()
	rights := container.SecurityContext
	if !*rights.ReadOnlyRootFilesystem {
		t.Errorf("%s can write to its image", container.Name)
	}
	privileged := rights.Privileged != nil && *rights.Privileged
	if !privileged && (*rights.AllowPrivilegeEscalation || !slices.Contains(rights.Capabilities.Drop, "ALL")) {
		t.Errorf("%s keeps privileges", container.Name)
	}
	if container.Resources.Requests.Memory().IsZero() || container.Resources.Requests.Cpu().IsZero() {
		t.Errorf("%s requests nothing", container.Name)
	}
	if image := container.Image; strings.HasSuffix(image, ":") || strings.HasSuffix(image, "latest") {
		t.Errorf("%s runs %q", container.Name, image)
	}
}

// Every mount has a volume and every volume a use.
func checkMounts(t *testing.T, pod corev1.PodSpec) {
	t.Helper()
	used := map[string]bool{}
	for _, container := range pod.Containers {
		for _, mount := range container.VolumeMounts {
			used[mount.Name] = true
		}
	}
	have := map[string]bool{}
	for _, volume := range pod.Volumes {
		have[volume.Name] = true
	}
	if !reflect.DeepEqual(used, have) {
		t.Errorf("volumes %v, mounts of %v", have, used)
	}
}

// No right is wider than it looks, each Secret is named, and each binding leads somewhere.
func checkRights(t *testing.T, all []runtime.Object) {
	t.Helper()
	rules := map[string][]rbacv1.PolicyRule{}
	for _, role := range only[*rbacv1.ClusterRole](all) {
		rules["ClusterRole "+role.Name] = role.Rules
	}
	for _, role := range only[*rbacv1.Role](all) {
		rules["Role "+role.Name] = role.Rules
	}
	accounts := map[string]bool{}
	for _, account := range only[*corev1.ServiceAccount](all) {
		accounts[account.Name] = true
	}
	for name, rules := range rules {
		for _, rule := range rules {
			if slices.Contains(rule.Verbs, "*") || slices.Contains(rule.Resources, "*") || slices.Contains(rule.APIGroups, "*") {
				t.Errorf("%s may do anything: %v", name, rule)
			}
			if slices.Contains(rule.Resources, "secrets") && len(rule.ResourceNames) == 0 {
				t.Errorf("%s reaches all Secrets: %v", name, rule)
			}
		}
	}
	bound := map[string]bool{}
	check := func(role rbacv1.RoleRef, subjects []rbacv1.Subject) {
		name := role.Kind + " " + role.Name
		bound[name] = true
		if rules[name] == nil || len(subjects) != 1 || !accounts[subjects[0].Name] {
			t.Errorf("the binding of %s to %v leads nowhere", name, subjects)
		}
	}
	for _, binding := range only[*rbacv1.ClusterRoleBinding](all) {
		check(binding.RoleRef, binding.Subjects)
	}
	for _, binding := range only[*rbacv1.RoleBinding](all) {
		check(binding.RoleRef, binding.Subjects)
	}
	for name := range rules {
		if !bound[name] {
			t.Errorf("%s is bound to nobody", name)
		}
	}
}

func TestTheDefaultsAreWhatTheDesignSays(t *testing.T) {
	all := objects(t, template(t))
	driver := one[*storagev1.CSIDriver](t, all).Spec
	no, yes, file := false, true, storagev1.FileFSGroupPolicy
	want := storagev1.CSIDriverSpec{
		AttachRequired: &no, StorageCapacity: &yes, FSGroupPolicy: &file, SELinuxMount: &yes, RequiresRepublish: &no,
		PodInfoOnMount: &no, VolumeLifecycleModes: []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent},
	}
	if !reflect.DeepEqual(driver, want) {
		t.Errorf("CSIDriver: %+v", driver)
	}
	class := one[*storagev1.StorageClass](t, all)
	if class.Name != "quarry" || *class.VolumeBindingMode != storagev1.VolumeBindingWaitForFirstConsumer || len(class.Annotations) != 0 {
		t.Errorf("StorageClass: %+v", class)
	}
	node := pods(t, all)["node"]
	if !reflect.DeepEqual(node.Tolerations, []corev1.Toleration{{Operator: corev1.TolerationOpExists}}) {
		t.Errorf("tolerations: %v", node.Tolerations)
	}
	if node.HostPID || node.HostNetwork || !node.HostIPC {
		t.Error("nodes share more or less of the host than IPC")
	}
	for _, binding := range only[*rbacv1.ClusterRoleBinding](all) {
		if binding.Subjects[0].Name == "quarry-node" {
			t.Errorf("nodes have a role: %s", binding.Name)
		}
	}
	namespace := one[*corev1.Namespace](t, all)
	if namespace.Labels["pod-security.kubernetes.io/enforce"] != "privileged" {
		t.Error("the namespace does not let nodes in")
	}
	for _, secret := range only[*corev1.Secret](all) {
		if secret.Data != nil || secret.StringData != nil {
			t.Errorf("applying it again would take away what is in Secret %s", secret.Name)
		}
	}
}

func TestKubeletsPathsAreTheSameInside(t *testing.T) {
	const root = "/var/lib/k0s/kubelet"
	all := objects(t, template(t, "kubelet.rootFolder="+root))
	node := pods(t, all)["node"]
	folders := map[string]string{}
	for _, volume := range node.Volumes {
		if volume.HostPath != nil {
			folders[volume.Name] = volume.HostPath.Path
		}
	}
	both := 0
	for _, mount := range container(t, node, "quarry").VolumeMounts {
		if mount.MountPropagation != nil && *mount.MountPropagation == corev1.MountPropagationBidirectional {
			both++
			if mount.MountPath != folders[mount.Name] || !strings.HasPrefix(mount.MountPath, root+"/") {
				t.Errorf("%s is %s on the host", mount.MountPath, folders[mount.Name])
			}
		}
	}
	if both != 2 || folders["socket"] != root+"/plugins/lvm.quarry.storage" {
		t.Errorf("%d shared folders, socket in %s", both, folders["socket"])
	}
	arguments := container(t, node, "registrar").Args
	if !slices.Contains(arguments, "--kubelet-registration-path="+root+"/plugins/lvm.quarry.storage/csi.sock") {
		t.Errorf("%v", arguments)
	}
}

func TestKubeletLooksAfterBothWithMetricsAndWithout(t *testing.T) {
	for _, metrics := range []string{"metrics.enabled=true", "metrics.enabled=false"} {
		both := pods(t, objects(t, template(t, metrics)))
		controller, node := container(t, both["controller"], "quarry"), container(t, both["node"], "quarry")
		for _, probe := range []*corev1.Probe{controller.ReadinessProbe, controller.LivenessProbe, node.LivenessProbe} {
			if probe == nil || probe.HTTPGet.Port.StrVal != "healthz" {
				t.Errorf("%s: %+v", metrics, probe)
			}
		}
		if !slices.Contains(controller.Args, "--health=[::]:9810") {
			t.Errorf("%s: %v", metrics, controller.Args)
		}
	}
}

func TestNodeDeploymentMovesTheProvisioner(t *testing.T) {
	all := objects(t, template(t, "provisioner.nodeDeployment=true"))
	both := pods(t, all)
	for _, container := range both["controller"].Containers {
		if container.Name == "provisioner" {
			t.Error("the controller still has it")
		}
	}
	container(t, both["node"], "provisioner")
	for _, container := range both["node"].Containers {
		hasToken := slices.ContainsFunc(container.VolumeMounts, func(mount corev1.VolumeMount) bool { return mount.Name == "credentials" })
		if hasToken != (container.Name == "provisioner") {
			t.Errorf("%s: credentials %v", container.Name, hasToken)
		}
	}
}

func TestSnapshotsAreTheControllersWhereverTheProvisionerIs(t *testing.T) {
	for _, provisioner := range []string{"provisioner.nodeDeployment=true", "provisioner.nodeDeployment=false"} {
		both := pods(t, objects(t, template(t, provisioner)))
		if !slices.Contains(container(t, both["controller"], "snapshotter").Args, "--feature-gates=CSIVolumeGroupSnapshot=true") {
			t.Errorf("%s: groups are not asked for", provisioner)
		}
		if slices.ContainsFunc(both["node"].Containers, func(container corev1.Container) bool { return container.Name == "snapshotter" }) {
			t.Errorf("%s: nodes have the snapshotter", provisioner)
		}
	}
	if text := template(t, "snapshots.groups=false"); strings.Contains(text, "groupsnapshot") || strings.Contains(text, "GroupSnapshot=true") {
		t.Error("without groups something is left of them")
	}
	if text := template(t, "snapshots.enabled=false"); strings.Contains(text, "snapshot") {
		t.Error("without snapshots something is left of them")
	}
}

func TestTheControllerMayChangeClaimsOnlyWhereItSendsThem(t *testing.T) {
	for value, sends := range map[string]bool{
		"snapshots.enabled=true": true, "snapshots.enabled=false": false, "provisioner.nodeDeployment=true": false,
	} {
		all := objects(t, template(t, value))
		roles := only[*rbacv1.ClusterRole](all)
		role := roles[slices.IndexFunc(roles, func(role *rbacv1.ClusterRole) bool { return strings.HasSuffix(role.Name, "controller") })]
		may := slices.ContainsFunc(role.Rules, func(rule rbacv1.PolicyRule) bool {
			return slices.Contains(rule.Resources, "persistentvolumeclaims") && slices.Contains(rule.Verbs, "patch")
		})
		asked := slices.Contains(container(t, pods(t, all)["controller"], "quarry").Args, "--send-claims-to-sources")
		if may != sends || asked != sends {
			t.Errorf("%s: may %v, is asked to %v", value, may, asked)
		}
	}
}

func TestASnapshotClassIsTheDriversAndTheDefaultWhereThatIsSaid(t *testing.T) {
	all := objects(t, template(t, settings["snapshot classes"]...))
	classes := only[*snapshotv1.VolumeSnapshotClass](all)
	if len(classes) != 2 {
		t.Fatalf("%d classes", len(classes))
	}
	for _, class := range classes {
		policy, isDefault := snapshotv1.VolumeSnapshotContentDelete, class.Name == "daily"
		if !isDefault {
			policy = snapshotv1.VolumeSnapshotContentRetain
		}
		marked := class.Annotations["snapshot.storage.kubernetes.io/is-default-class"] == "true"
		if class.Driver != "lvm.quarry.storage" || class.DeletionPolicy != policy || marked != isDefault {
			t.Errorf("%+v", class)
		}
	}
	all = objects(t, template(t, settings["groups of snapshots"]...))
	class := one[*groupsnapshotv1.VolumeGroupSnapshotClass](t, all)
	if class.Driver != "lvm.quarry.storage" || class.Annotations["groupsnapshot.storage.kubernetes.io/is-default-class"] != "true" {
		t.Errorf("%+v", class)
	}
}

func TestPoliciesLetTheControllerInAndNobodyElse(t *testing.T) {
	for _, policy := range only[*networkingv1.NetworkPolicy](objects(t, template(t))) {
		switch policy.Name {
		case "quarry-node":
			from := policy.Spec.Ingress
			if len(from) != 1 || from[0].From[0].PodSelector.MatchLabels["app.kubernetes.io/component"] != "controller" ||
				len(policy.Spec.Egress) != 0 || len(policy.Spec.PolicyTypes) != 2 {
				t.Errorf("%+v", policy.Spec)
			}
		case "quarry-controller":
			if len(policy.Spec.Ingress) != 0 {
				t.Errorf("%+v", policy.Spec)
			}
		default:
			t.Errorf("unknown policy %s", policy.Name)
		}
	}
}

func TestWrongValuesAreRefusedInClearWords(t *testing.T) {
	for value, words := range map[string][]string{
		"tls.source=none":                                          {"/tls/source", "generated", "secrets", "certManager"},
		"nodes.tolerations=null":                                   {"nodes"},
		"node.tolerance=x":                                         {"/node", "tolerance"},
		"classes[0].name=a":                                        {"/classes/0", "volumeGroups"},
		"classes[0].wipe=no":                                       {"/classes/0/wipe", "discard"},
		"images.quarry.digest=abc":                                 {"/images/quarry/digest", "sha256"},
		"kubelet.rootFolder=var/lib/kubelet":                       {"/kubelet/rootFolder"},
		"driverName=Quarry":                                        {"/driverName"},
		"controller.replicas=0":                                    {"/controller/replicas"},
		"controller.lookEverySeconds=0":                            {"/controller/lookEverySeconds"},
		"node.maxUnavailable=0":                                    {"/node/maxUnavailable"},
		"log.format=xml":                                           {"/log/format", "json"},
		"listenAddress=::":                                         {"/listenAddress"},
		"provisioner.capacityPollInterval=30":                      {"/provisioner/capacityPollInterval"},
		"metrics.podMonitor.enabled=true":                          {"networkPolicy.metricsFrom"},
		"snapshots.classes[0].deletionPolicy=Keep":                 {"/snapshots/classes/0", "name", "Retain"},
		"snapshots.groups=false,snapshots.groupClasses[0].name=a":  {"snapshots.groups"},
		"snapshots.enabled=false,snapshots.classes[0].name=quarry": {"snapshots.enabled"},
	} {
		text, err := run(templating([]string{value})...)
		if err == nil {
			t.Errorf("%s is taken", value)
			continue
		}
		for _, word := range words {
			if !strings.Contains(text, word) {
				t.Errorf("%s: no %q in\n%s", value, word, text)
			}
		}
	}
}
