package access

import rbac "k8s.io/api/rbac/v1"

var (
	all   = []string{"*"}
	reads = []string{"get", "list", "watch"}
)

// builtin are the roles that every cluster has (kubernetes.io/docs/reference/access-authn-authz/rbac, "User-facing roles"), as far
// as there are the resources here. Who may look does not see Secrets, and runs nothing.
var builtin = map[string][]rbac.PolicyRule{
	"cluster-admin": {
		{APIGroups: all, Resources: all, Verbs: all},
		{NonResourceURLs: all, Verbs: all},
	},
	"admin": append(edits(),
		rbac.PolicyRule{APIGroups: []string{rbac.GroupName}, Resources: []string{"roles", "rolebindings"}, Verbs: all},
		rbac.PolicyRule{APIGroups: []string{"authorization.k8s.io"}, Resources: []string{"localsubjectaccessreviews"}, Verbs: []string{"create"}}),
	"edit": edits(),
	"view": views(),
}

func views() []rbac.PolicyRule {
	return []rbac.PolicyRule{
		{APIGroups: []string{""}, Verbs: reads, Resources: []string{
			"pods", "pods/log", "pods/status", "configmaps", "namespaces", "nodes", "events", "serviceaccounts", "services", "endpoints", "limitranges",
			"resourcequotas", "persistentvolumes", "persistentvolumeclaims",
		}},
		{APIGroups: []string{"events.k8s.io", "scheduling.k8s.io", "node.k8s.io", "coordination.k8s.io", "discovery.k8s.io", "metrics.k8s.io"}, Verbs: reads, Resources: all},
	}
}

func edits() []rbac.PolicyRule {
	return append(views(),
		rbac.PolicyRule{APIGroups: []string{""}, Verbs: all, Resources: []string{
			"pods", "pods/attach", "pods/exec", "pods/portforward", "pods/eviction", "pods/ephemeralcontainers", "pods/resize", "configmaps", "secrets", "events",
			"serviceaccounts", "services", "endpoints", "persistentvolumeclaims",
		}},
		rbac.PolicyRule{APIGroups: []string{""}, Verbs: []string{"create"}, Resources: []string{"serviceaccounts/token"}},
		rbac.PolicyRule{APIGroups: []string{"coordination.k8s.io", "discovery.k8s.io"}, Verbs: all, Resources: []string{"leases", "endpointslices"}})
}

// everyones are what everybody with a certificate may do (system:discovery, system:basic-user).
func everyones() []grant {
	return in("", []rbac.PolicyRule{
		{NonResourceURLs: []string{"/", "/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*", "/version", "/version/", "/healthz", "/livez", "/readyz"}, Verbs: []string{"get", "head"}},
		{APIGroups: []string{"authorization.k8s.io"}, Resources: []string{"selfsubjectaccessreviews", "selfsubjectrulesreviews"}, Verbs: []string{"create"}},
		{APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"selfsubjectreviews"}, Verbs: []string{"create"}},
	})
}
