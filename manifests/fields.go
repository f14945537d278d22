package manifests

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// verdict is what podkeeper does about a field.
type verdict string

const (
	yes  verdict = "supported"                     // it works, in full
	no   verdict = "refused"                       // it does not work yet: setting it is refused by name
	drop verdict = "written by the API server"     // read from kubectl's output without harm, and left out
	some verdict = "supported with certain values" // it works for the values, or the keys of a map, that are listed
)

type rule struct {
	verdict verdict
	values  []string
}

func (r rule) dropped() bool { return r.verdict == drop }

// allows says whether a value is among those that work. One that ends with a star is all that begin so.
func (r rule) allows(value string) bool {
	return slices.ContainsFunc(r.values, func(v string) bool {
		start, many := strings.CutSuffix(v, "*")
		return v == value || many && strings.HasPrefix(value, start)
	})
}

func only(values ...string) rule { return rule{verdict: some, values: values} }

// rules is the one place that says which fields of an object work. The rest of podkeeper relies on it: one that passed
// has nothing set but what is "yes" here, or "only" with one of these values (empty values always pass). Everything
// that an object can have is on it, by type and name as in the API reference; TestEveryFieldHasARule holds it to that. What
// is below a field that is refused or dropped needs no line of its own.
var rules = func() map[string]rule {
	table := map[string]rule{
		"Pod.metadata": {verdict: yes}, "Pod.spec": {verdict: yes}, "Pod.status": {verdict: drop},
		"PodSpec.schedulerName": only(v1.DefaultSchedulerName),
		"Taint.effect":          only(string(v1.TaintEffectNoSchedule), string(v1.TaintEffectPreferNoSchedule)),

		"SeccompProfile.type": only("RuntimeDefault", "Localhost", "Unconfined"),

		"ResourceFieldSelector.resource":                     only("limits.cpu", "limits.memory", "limits.ephemeral-storage", "limits.hugepages-*", "requests.cpu", "requests.memory", "requests.ephemeral-storage", "requests.hugepages-*"),
		"PersistentVolumeSpec.persistentVolumeReclaimPolicy": only(string(v1.PersistentVolumeReclaimRetain)),
		"PersistentVolumeSpec.volumeMode":                    only(string(v1.PersistentVolumeFilesystem)),
		"PersistentVolumeClaimSpec.volumeMode":               only(string(v1.PersistentVolumeFilesystem)),
		"PersistentVolumeSpec.capacity":                      only("storage"),
		"VolumeResourceRequirements.requests":                only("storage"),
		"VolumeResourceRequirements.limits":                  only("storage"),
		"EmptyDirVolumeSource.medium":                        only("Memory", "HugePages", "HugePages-*"),
		"ObjectFieldSelector.apiVersion":                     only("v1"),
		"PodSecurityContext.seLinuxChangePolicy":             only(string(v1.SELinuxChangePolicyRecursive), string(v1.SELinuxChangePolicyMountOption)),
	}
	for _, line := range strings.Split(strings.TrimSpace(plainRules), "\n") {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		for _, name := range words[2:] {
			table[words[1]+"."+name] = rule{verdict: map[string]verdict{"yes": yes, "no": no, "drop": drop}[words[0]]}
		}
	}
	return table
}()

// plainRules has a verdict, a type, and the fields of the type that it is about.
const plainRules = `
yes  TypeMeta kind apiVersion
yes  ObjectMeta name namespace uid labels annotations generateName finalizers
no   ObjectMeta ownerReferences
drop ObjectMeta creationTimestamp deletionTimestamp deletionGracePeriodSeconds generation managedFields resourceVersion selfLink

yes  ConfigMap metadata data binaryData immutable
yes  Secret metadata data stringData type immutable
yes  PersistentVolume metadata spec
drop PersistentVolume status
yes  PersistentVolumeSpec accessModes claimRef nodeAffinity storageClassName
no   PersistentVolumeSpec mountOptions volumeAttributesClassName
yes  PersistentVolumeSource hostPath local
no   PersistentVolumeSource awsElasticBlockStore azureDisk azureFile cephfs cinder csi fc flexVolume flocker gcePersistentDisk
no   PersistentVolumeSource glusterfs iscsi nfs photonPersistentDisk portworxVolume quobyte rbd scaleIO storageos vsphereVolume
yes  LocalVolumeSource path
no   LocalVolumeSource fsType
yes  VolumeNodeAffinity required
yes  ObjectReference apiVersion kind namespace name uid
drop ObjectReference resourceVersion fieldPath
yes  PersistentVolumeClaim metadata spec
drop PersistentVolumeClaim status
yes  PersistentVolumeClaimSpec accessModes resources selector storageClassName volumeName
no   PersistentVolumeClaimSpec dataSource dataSourceRef volumeAttributesClassName

yes  Namespace metadata spec
drop Namespace status
yes  NamespaceSpec finalizers
yes  ServiceAccount metadata secrets imagePullSecrets automountServiceAccountToken
yes  Service metadata spec
drop Service status
yes  ServiceSpec ports selector clusterIP clusterIPs type externalIPs sessionAffinity loadBalancerIP loadBalancerSourceRanges externalName
yes  ServiceSpec externalTrafficPolicy healthCheckNodePort publishNotReadyAddresses sessionAffinityConfig ipFamilies ipFamilyPolicy
yes  ServiceSpec allocateLoadBalancerNodePorts loadBalancerClass internalTrafficPolicy trafficDistribution
yes  ServicePort name protocol appProtocol port targetPort nodePort
yes  SessionAffinityConfig clientIP
yes  ClientIPConfig timeoutSeconds
yes  Endpoints metadata subsets
yes  EndpointSubset addresses notReadyAddresses ports
yes  EndpointAddress ip hostname nodeName targetRef
yes  EndpointPort name port protocol appProtocol
yes  EndpointSlice metadata addressType endpoints ports
yes  Endpoint addresses conditions hostname targetRef deprecatedTopology nodeName zone hints
yes  EndpointConditions ready serving terminating
yes  EndpointHints forZones forNodes
yes  ForZone name
yes  ForNode name
yes  Node metadata spec
drop Node status
yes  NodeSpec unschedulable taints
drop NodeSpec podCIDR podCIDRs
no   NodeSpec providerID configSource externalID podPreemptionPolicy
yes  Taint key value timeAdded
yes  Event metadata involvedObject reason message source firstTimestamp lastTimestamp count type
yes  Event eventTime series action related reportingComponent reportingInstance
yes  EventSource component host
yes  EventSeries count lastObservedTime
yes  LimitRange metadata spec
yes  LimitRangeSpec limits
yes  LimitRangeItem type max min default defaultRequest maxLimitRequestRatio
yes  ResourceQuota metadata spec
drop ResourceQuota status
yes  ResourceQuotaSpec hard scopes scopeSelector
yes  ScopeSelector matchExpressions
yes  ScopedResourceSelectorRequirement scopeName operator values
yes  PriorityClass metadata value globalDefault description preemptionPolicy
yes  RuntimeClass metadata handler overhead scheduling
yes  Overhead podFixed
yes  Scheduling nodeSelector tolerations
yes  Lease metadata spec
yes  LeaseSpec holderIdentity leaseDurationSeconds acquireTime renewTime leaseTransitions strategy preferredHolder
yes  Role metadata rules
yes  PolicyRule verbs apiGroups resources resourceNames nonResourceURLs
yes  ClusterRole metadata rules
no   ClusterRole aggregationRule
yes  RoleBinding metadata subjects roleRef
yes  ClusterRoleBinding metadata subjects roleRef
yes  Subject kind apiGroup name namespace
yes  RoleRef apiGroup kind name

yes  PodSpec activeDeadlineSeconds volumes initContainers containers restartPolicy terminationGracePeriodSeconds
yes  PodSpec dnsPolicy dnsConfig hostNetwork hostPID hostIPC hostUsers shareProcessNamespace
yes  PodSpec hostname subdomain setHostnameAsFQDN hostAliases enableServiceLinks os securityContext runtimeClassName priority hostnameOverride imagePullSecrets
yes  PodSpec nodeName nodeSelector affinity tolerations schedulingGates topologySpreadConstraints readinessGates
no   PodSpec ephemeralContainers evictionResponders
no   PodSpec resourceClaims
yes  PodSpec resources overhead
yes  PodSpec serviceAccount serviceAccountName automountServiceAccountToken priorityClassName preemptionPolicy
no   PodSpec schedulingGroup
yes  PodOS name
yes  PodSchedulingGate name
yes  PodReadinessGate conditionType
yes  Affinity nodeAffinity podAffinity podAntiAffinity
yes  NodeAffinity requiredDuringSchedulingIgnoredDuringExecution preferredDuringSchedulingIgnoredDuringExecution
yes  NodeSelector nodeSelectorTerms
yes  NodeSelectorTerm matchExpressions matchFields
yes  NodeSelectorRequirement key operator values
yes  PreferredSchedulingTerm weight preference
yes  PodAffinity requiredDuringSchedulingIgnoredDuringExecution preferredDuringSchedulingIgnoredDuringExecution
yes  PodAntiAffinity requiredDuringSchedulingIgnoredDuringExecution preferredDuringSchedulingIgnoredDuringExecution
yes  WeightedPodAffinityTerm weight podAffinityTerm
yes  PodAffinityTerm labelSelector namespaces topologyKey namespaceSelector matchLabelKeys mismatchLabelKeys
yes  LabelSelector matchLabels matchExpressions
yes  LabelSelectorRequirement key operator values
yes  TopologySpreadConstraint maxSkew topologyKey whenUnsatisfiable labelSelector minDomains nodeAffinityPolicy nodeTaintsPolicy matchLabelKeys
yes  Toleration key operator value effect tolerationSeconds
yes  LocalObjectReference name
yes  PodDNSConfig nameservers searches options
yes  PodDNSConfigOption name value
yes  HostAlias ip hostnames
yes  PodSecurityContext runAsUser runAsGroup runAsNonRoot supplementalGroups supplementalGroupsPolicy seccompProfile sysctls fsGroup fsGroupChangePolicy
yes  PodSecurityContext appArmorProfile seLinuxOptions
no   PodSecurityContext windowsOptions
yes  SELinuxOptions user role type level
yes  AppArmorProfile type localhostProfile
yes  SeccompProfile localhostProfile
yes  Sysctl name value

yes  Container name image command args workingDir ports env resources resizePolicy volumeMounts
yes  Container livenessProbe readinessProbe startupProbe
yes  Container terminationMessagePath terminationMessagePolicy imagePullPolicy securityContext
yes  Container lifecycle restartPolicy restartPolicyRules
yes  ContainerRestartRule action exitCodes
yes  ContainerRestartRuleOnExitCodes operator values
yes  Lifecycle postStart preStop stopSignal
yes  LifecycleHandler exec httpGet tcpSocket sleep
yes  SleepAction seconds
yes  Container envFrom stdin stdinOnce tty
yes  EnvFromSource prefix configMapRef secretRef
yes  ConfigMapEnvSource optional
yes  SecretEnvSource optional
no   Container volumeDevices
yes  ContainerPort name hostPort containerPort protocol hostIP
yes  ContainerResizePolicy resourceName restartPolicy
yes  ResourceRequirements limits requests
no   ResourceRequirements claims
yes  EnvVar name value valueFrom
yes  EnvVarSource configMapKeyRef fieldRef fileKeyRef resourceFieldRef secretKeyRef
yes  FileKeySelector volumeName path key optional
yes  ConfigMapKeySelector key optional
yes  SecretKeySelector key optional
yes  ObjectFieldSelector fieldPath
yes  ResourceFieldSelector containerName divisor
yes  SecurityContext capabilities privileged readOnlyRootFilesystem allowPrivilegeEscalation procMount
yes  SecurityContext runAsUser runAsGroup runAsNonRoot seccompProfile
yes  SecurityContext appArmorProfile seLinuxOptions
no   SecurityContext windowsOptions
yes  Capabilities add drop

yes  Probe initialDelaySeconds timeoutSeconds periodSeconds successThreshold failureThreshold terminationGracePeriodSeconds
yes  ProbeHandler exec httpGet tcpSocket grpc
yes  ExecAction command
yes  HTTPGetAction path port host scheme httpHeaders
no   HTTPGetAction protocol
yes  HTTPHeader name value
yes  TCPSocketAction port host
yes  GRPCAction port service
no   GRPCAction mode

yes  Volume name
yes  ImageVolumeSource reference pullPolicy
yes  EphemeralVolumeSource volumeClaimTemplate
yes  PersistentVolumeClaimTemplate metadata spec
yes  VolumeSource configMap downwardAPI emptyDir ephemeral hostPath image persistentVolumeClaim projected secret
yes  PersistentVolumeClaimVolumeSource claimName readOnly
yes  ConfigMapVolumeSource items defaultMode optional
yes  SecretVolumeSource secretName items defaultMode optional
yes  KeyToPath key path mode
no   KeyToPath user
no   ConfigMapVolumeSource defaultUser
no   SecretVolumeSource defaultUser
yes  DownwardAPIVolumeSource items defaultMode
yes  DownwardAPIVolumeFile path fieldRef resourceFieldRef mode
no   DownwardAPIVolumeFile user
no   DownwardAPIVolumeSource defaultUser
no   ProjectedVolumeSource defaultUser
yes  ProjectedVolumeSource sources defaultMode
yes  VolumeProjection configMap downwardAPI secret serviceAccountToken
yes  ServiceAccountTokenProjection audience expirationSeconds path
no   ServiceAccountTokenProjection user
yes  ConfigMapProjection items optional
yes  SecretProjection items optional
no   VolumeProjection clusterTrustBundle podCertificate
yes  DownwardAPIProjection items
no   VolumeSource awsElasticBlockStore azureDisk azureFile cephfs cinder csi fc flexVolume
no   VolumeSource flocker gcePersistentDisk gitRepo glusterfs iscsi nfs photonPersistentDisk
no   VolumeSource portworxVolume quobyte rbd scaleIO storageos vsphereVolume
yes  EmptyDirVolumeSource sizeLimit
no   EmptyDirVolumeSource mode
yes  HostPathVolumeSource path type
yes  VolumeMount name readOnly recursiveReadOnly mountPath subPath subPathExpr mountPropagation
no   VolumeMount bindMountOptions
`

// jsonField is one field of an API type under its JSON name.
type jsonField struct {
	owner, name string
	typ         reflect.Type
	index       []int
}

func (f jsonField) rule() rule { return rules[f.owner+"."+f.name] }

// jsonFields lists the fields of a struct by their JSON names; fields of inlined structs are among them.
func jsonFields(t reflect.Type) map[string]jsonField {
	fields := make(map[string]jsonField)
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" && f.Anonymous {
			for inner, inlined := range jsonFields(f.Type) {
				inlined.index = append([]int{i}, inlined.index...)
				fields[inner] = inlined
			}
			continue
		}
		if name != "" && name != "-" {
			fields[name] = jsonField{owner: t.Name(), name: name, typ: f.Type, index: []int{i}}
		}
	}
	return fields
}

// unsupported finds what is set in v and does not work: every such field with the reason.
func unsupported(v reflect.Value, at *field.Path) []fault {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return unsupported(v.Elem(), at)
	case reflect.Slice:
		var faults []fault
		for i := range v.Len() {
			faults = append(faults, unsupported(v.Index(i), at.Index(i))...)
		}
		return faults
	case reflect.Struct:
		if leaf(v.Type()) {
			return nil
		}
		return unsupportedFields(v, at)
	}
	return nil
}

func leaf(t reflect.Type) bool {
	return t == quantityType || t == intOrStringType || t == timeType || t == microTimeType
}

func unsupportedFields(v reflect.Value, at *field.Path) []fault {
	fields := jsonFields(v.Type())
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	var faults []fault
	for _, name := range names {
		f, value := fields[name], v.FieldByIndex(fields[name].index)
		inside := at.Child(name)
		switch r := f.rule(); r.verdict {
		case yes:
			faults = append(faults, unsupported(value, inside)...)
		case some:
			faults = append(faults, r.others(value, inside)...)
		case drop:
		default: // no, and what a later Kubernetes may bring
			if set(value) {
				faults = append(faults, fault{field: inside.String(), reason: "not supported" + instead(f)})
			}
		}
	}
	return faults
}

// choices are the types of which one field is set, as one of several ways to the same.
var choices = []string{"VolumeSource", "PersistentVolumeSource", "VolumeProjection", "EnvVarSource"}

// instead says what could be chosen in place of a field that does not work.
func instead(f jsonField) string {
	if !slices.Contains(choices, f.owner) {
		return ""
	}
	var works []string
	for name, r := range rules {
		if field, ok := strings.CutPrefix(name, f.owner+"."); ok && (r.verdict == yes || r.verdict == some) {
			works = append(works, field)
		}
	}
	slices.Sort(works)
	return fmt.Sprintf(" by podkeeper (supported: %s)", strings.Join(works, ", "))
}

// set tells whether a field says anything. A pointer does, whatever it points to: fsGroup: 0 and nfs: {} have a
// meaning.
func set(v reflect.Value) bool {
	if v.Kind() == reflect.Slice || v.Kind() == reflect.Map {
		return v.Len() > 0
	}
	return !v.IsZero()
}

// others finds values, or keys of a map, that are not among those that work.
func (r rule) others(v reflect.Value, at *field.Path) []fault {
	if !set(v) {
		return nil
	}
	if v.Kind() == reflect.Map {
		var faults []fault
		for _, key := range v.MapKeys() {
			if !r.allows(key.String()) {
				faults = append(faults, fault{
					field: at.Key(key.String()).String(), reason: "not supported: only " + listed(r.values) + " are",
				})
			}
		}
		slices.SortFunc(faults, func(a, b fault) int { return strings.Compare(a.field, b.field) })
		return faults
	}
	value := fmt.Sprint(reflect.Indirect(v).Interface())
	if value == "" || r.allows(value) {
		return nil
	}
	quoted := make([]string, len(r.values))
	for i, text := range r.values {
		quoted[i] = fmt.Sprintf("%q", text)
	}
	if kind := reflect.Indirect(v).Kind(); kind != reflect.String {
		copy(quoted, r.values)
		return []fault{{field: at.String(), reason: fmt.Sprintf("%s: not supported: only %s is", value, strings.Join(quoted, ", "))}}
	}
	return []fault{{field: at.String(), reason: fmt.Sprintf("%q: not supported: supported values: %s", value, strings.Join(quoted, ", "))}}
}

// listed writes several things as a sentence has them: a, b and c.
func listed(of []string) string {
	if len(of) < 2 {
		return strings.Join(of, "")
	}
	return strings.Join(of[:len(of)-1], ", ") + " and " + of[len(of)-1]
}

// oddPod finds what cannot be told from one field alone.
func oddPod(pod *v1.Pod, at *field.Path) []fault {
	var faults []fault
	spec := at.Child("spec")
	for i, volume := range pod.Spec.Volumes {
		if volume.Ephemeral != nil && volume.Ephemeral.VolumeClaimTemplate != nil {
			at := spec.Child("volumes").Index(i).Child("ephemeral", "volumeClaimTemplate", "spec")
			faults = append(faults, oddTemplate(volume.Ephemeral.VolumeClaimTemplate.Spec, at)...)
		}
	}
	return faults
}
