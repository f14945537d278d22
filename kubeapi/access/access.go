// Package access says who may do what: Kubernetes' RBAC, by the roles and bindings that there are, beside the rights that a
// certificate carries in its organizations.
//
//	system:masters          everything
//	podkeeper:admin:NS      everything in one namespace
//	podkeeper:view          read everything but Secrets
//	podkeeper:view:NS       the same in one namespace
//
// It must not know how somebody came to be who he is.
package access

import (
	"cmp"
	"context"
	"slices"
	"strings"

	rbac "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// Objects answers all objects of a resource of rbac.authorization.k8s.io, such as roles.
type Objects func(resource string) []runtime.Object

// Rules are who may do what. It is an authorizer.UnconditionalAuthorizer.
type Rules struct{ objects Objects }

// New are the rules that follow from the roles and bindings there are when somebody asks.
func New(objects Objects) *Rules { return &Rules{objects} }

// grant is a rule, and where it holds.
type grant struct {
	namespace string // empty for everywhere, and for what is in no namespace
	rule      rbac.PolicyRule
}

// Authorize says whether somebody may do something. What no rule allows is not.
func (r *Rules) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	for _, g := range r.grants(a.GetUser()) {
		if (g.namespace == "" || g.namespace == a.GetNamespace() && a.IsResourceRequest()) && allows(g.rule, a) {
			return authorizer.DecisionAllow, "", nil
		}
	}
	return authorizer.DecisionNoOpinion, "", nil
}

// grants are all that somebody has been given.
func (r *Rules) grants(who user.Info) []grant {
	found := everyones()
	for _, group := range who.GetGroups() {
		found = append(found, carried(group)...)
	}
	for _, o := range r.objects("clusterrolebindings") {
		if b, ok := o.(*rbac.ClusterRoleBinding); ok && names(b.Subjects, who, "") {
			found = append(found, r.of(b.RoleRef, "", "")...)
		}
	}
	for _, o := range r.objects("rolebindings") {
		if b, ok := o.(*rbac.RoleBinding); ok && names(b.Subjects, who, b.Namespace) {
			found = append(found, r.of(b.RoleRef, b.Namespace, b.Namespace)...)
		}
	}
	return found
}

// carried are the grants that a group of a certificate carries.
func carried(group string) []grant {
	if group == user.SystemPrivilegedGroup {
		return in("", builtin["cluster-admin"])
	}
	switch ours := strings.Split(group, ":"); {
	case ours[0] != "podkeeper":
	case len(ours) == 3 && ours[1] == "admin" && ours[2] != "":
		return in(ours[2], builtin["cluster-admin"])
	case len(ours) == 2 && ours[1] == "view":
		return in("", builtin["view"])
	case len(ours) == 3 && ours[1] == "view" && ours[2] != "":
		return in(ours[2], builtin["view"])
	}
	return nil
}

func in(namespace string, rules []rbac.PolicyRule) []grant {
	var found []grant
	for _, rule := range rules {
		found = append(found, grant{namespace, rule})
	}
	return found
}

// names tells whether somebody is among subjects; a ServiceAccount that names no namespace is in that of the binding.
func names(subjects []rbac.Subject, who user.Info, namespace string) bool {
	for _, s := range subjects {
		switch s.Kind {
		case rbac.UserKind:
			if s.Name == who.GetName() {
				return true
			}
		case rbac.GroupKind:
			if slices.Contains(who.GetGroups(), s.Name) {
				return true
			}
		case rbac.ServiceAccountKind:
			of := cmp.Or(s.Namespace, namespace)
			if of != "" && serviceaccount.MatchesUsername(of, s.Name, who.GetName()) {
				return true
			}
		}
	}
	return false
}

// of are the grants of a role, which hold in a namespace.
func (r *Rules) of(ref rbac.RoleRef, roles, holds string) []grant {
	if ref.Kind == "ClusterRole" {
		for _, o := range r.objects("clusterroles") {
			if role, ok := o.(*rbac.ClusterRole); ok && role.Name == ref.Name {
				return in(holds, role.Rules)
			}
		}
		return in(holds, builtin[ref.Name])
	}
	for _, o := range r.objects("roles") {
		if role, ok := o.(*rbac.Role); ok && role.Name == ref.Name && role.Namespace == roles {
			return in(holds, role.Rules)
		}
	}
	return nil
}

// allows tells whether a rule allows what is asked (kubernetes/kubernetes plugin/pkg/auth/authorizer/rbac, RuleAllows).
func allows(rule rbac.PolicyRule, a authorizer.Attributes) bool {
	if !has(rule.Verbs, a.GetVerb()) {
		return false
	}
	if !a.IsResourceRequest() {
		return hasPath(rule.NonResourceURLs, a.GetPath())
	}
	return has(rule.APIGroups, a.GetAPIGroup()) && hasResource(rule.Resources, a.GetResource(), a.GetSubresource()) &&
		(len(rule.ResourceNames) == 0 || a.GetName() != "" && slices.Contains(rule.ResourceNames, a.GetName()))
}

func has(of []string, one string) bool { return slices.Contains(of, one) || slices.Contains(of, "*") }

// hasResource takes resource/subresource, */subresource, and * for everything.
func hasResource(of []string, resource, sub string) bool {
	if sub == "" {
		return has(of, resource)
	}
	return has(of, resource+"/"+sub) || slices.Contains(of, "*/"+sub)
}

// hasPath takes paths, and what they begin with before a *.
func hasPath(of []string, path string) bool {
	for _, o := range of {
		if begins, any := strings.CutSuffix(o, "*"); o == path || any && strings.HasPrefix(path, begins) {
			return true
		}
	}
	return false
}
