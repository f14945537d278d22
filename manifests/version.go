package manifests

// KubernetesVersion is the version of Kubernetes whose rules objects are held to, as clients of an API are told it.
const KubernetesVersion = "v1.37.2+podkeeper"
