package access

import (
	"context"
	"strings"
	"testing"

	authentication "k8s.io/api/authentication/v1"
	authorization "k8s.io/api/authorization/v1"
	rbac "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
)

func named(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name, Namespace: "shop"} }

func to(kind, name string) rbac.RoleRef {
	return rbac.RoleRef{APIGroup: rbac.GroupName, Kind: kind, Name: name}
}

// objects are roles that people in the tests are bound to.
var objects = map[string][]runtime.Object{
	"roles": {&rbac.Role{ObjectMeta: named("logs"), Rules: []rbac.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"pods/log"}, Verbs: []string{"get"}},
		{APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{"settings"}, Verbs: []string{"*"}},
	}}},
	"rolebindings": {
		&rbac.RoleBinding{ObjectMeta: named("logs"), RoleRef: to("Role", "logs"), Subjects: []rbac.Subject{{Kind: "User", Name: "lin"}, {Kind: "ServiceAccount", Name: "bot"}}},
		&rbac.RoleBinding{ObjectMeta: named("edit"), RoleRef: to("ClusterRole", "edit"), Subjects: []rbac.Subject{{Kind: "Group", Name: "staff"}}},
		&rbac.RoleBinding{ObjectMeta: named("none"), RoleRef: to("Role", "none"), Subjects: []rbac.Subject{{Kind: "User", Name: "lin"}}},
	},
	"clusterroles":        {&rbac.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "metrics"}, Rules: []rbac.PolicyRule{{NonResourceURLs: []string{"/metrics/*"}, Verbs: []string{"get"}}}}},
	"clusterrolebindings": {&rbac.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "metrics"}, RoleRef: to("ClusterRole", "metrics"), Subjects: []rbac.Subject{{Kind: "User", Name: "lin"}}}},
}

func rules() *Rules { return New(func(resource string) []runtime.Object { return objects[resource] }) }

func who(name string, groups ...string) user.Info {
	return &user.DefaultInfo{Name: name, Groups: groups}
}

// asked is "verb namespace/name group/resource/subresource" or "verb /path".
func asked(by user.Info, what string) authorizer.AttributesRecord {
	f := strings.Fields(what)
	if len(f) == 2 {
		return authorizer.AttributesRecord{User: by, Verb: f[0], Path: f[1]}
	}
	namespace, name, _ := strings.Cut(f[1], "/")
	of := append(strings.Split(f[2], "/"), "")
	return authorizer.AttributesRecord{
		User: by, Verb: f[0], Namespace: namespace, Name: name, APIGroup: of[0], Resource: of[1], Subresource: of[2], ResourceRequest: true,
	}
}

func TestWhoMayDoWhat(t *testing.T) {
	admin, shop, viewer, shopViewer := who("root", "system:masters"), who("ann", "podkeeper:admin:shop"), who("bob", "podkeeper:view"), who("eve", "podkeeper:view:shop")
	lin, bot, staff, nobody := who("lin"), who("system:serviceaccount:shop:bot"), who("joe", "staff"), who("ida", "podkeeper:admin:", "podkeeper:root", "podkeeper")
	for what, of := range map[string]struct {
		by    user.Info
		asks  string
		allow bool
	}{
		"a master may do everything":                          {admin, "delete default/x /secrets", true},
		"a master may ask for every path":                     {admin, "get /metrics", true},
		"who has a namespace may do everything in it":         {shop, "create shop/ /pods", true},
		"and in subresources":                                 {shop, "create shop/web /pods/exec", true},
		"but not in another one":                              {shop, "get default/web /pods", false},
		"nor in all":                                          {shop, "list / /pods", false},
		"nor to what is in none":                              {shop, "patch /here /nodes", false},
		"who may view sees all Pods":                          {viewer, "list / /pods", true},
		"and their logs":                                      {viewer, "get shop/web /pods/log", true},
		"but no Secrets":                                      {viewer, "get shop/keys /secrets", false},
		"and changes nothing":                                 {viewer, "patch shop/web /pods", false},
		"nor runs anything, though that is a GET":             {viewer, "get shop/web /pods/exec", false},
		"who may view a namespace sees that":                  {shopViewer, "watch shop/ /pods", true},
		"and no other one":                                    {shopViewer, "watch default/ /pods", false},
		"a role gives what it names":                          {lin, "get shop/web /pods/log", true},
		"not the resource of a subresource":                   {lin, "get shop/web /pods", false},
		"not in another namespace":                            {lin, "get default/web /pods/log", false},
		"an object by its name":                               {lin, "update shop/settings /configmaps", true},
		"not another one":                                     {lin, "update shop/other /configmaps", false},
		"not those that have no name yet":                     {lin, "list shop/ /configmaps", false},
		"a path by what it begins with":                       {lin, "get /metrics/pods", true},
		"not with another verb":                               {lin, "post /metrics/pods", false},
		"a service account of the binding's namespace is one": {bot, "get shop/web /pods/log", true},
		"a group may have a role that every cluster has":      {staff, "create shop/ /pods", true},
		"which gives no other rights":                         {staff, "create shop/ rbac.authorization.k8s.io/rolebindings", false},
		"nobody else may do anything":                         {nobody, "get shop/web /pods", false},
		"but see what there is to ask for":                    {nobody, "get /apis/apps", true},
		"and ask what he may":                                 {nobody, "create / authorization.k8s.io/selfsubjectaccessreviews", true},
		"not what others may":                                 {nobody, "create / authorization.k8s.io/subjectaccessreviews", false},
	} {
		decision, _, err := rules().Authorize(context.Background(), asked(of.by, of.asks))
		if got := decision == authorizer.DecisionAllow; got != of.allow || err != nil {
			t.Errorf("%s: %s asks %q: %v, %v", what, of.by.GetName(), of.asks, got, err)
		}
	}
}

func TestReviews(t *testing.T) {
	all := rules().Reviews()
	ctx := request.WithNamespace(request.WithUser(context.Background(), who("lin", "people")), "shop")
	ask := func(resource string, question runtime.Object) runtime.Object {
		t.Helper()
		for _, of := range all {
			if s, ok := of[resource].(rest.Creater); ok {
				answer, err := s.Create(ctx, question, nil, nil)
				if err != nil {
					t.Errorf("%s: %v", resource, err)
				}
				return answer
			}
		}
		t.Fatalf("there is no %s", resource)
		return nil
	}
	logs := &authorization.ResourceAttributes{Namespace: "shop", Verb: "get", Resource: "pods", Subresource: "log", Name: "web"}
	if a := ask("selfsubjectaccessreviews", &authorization.SelfSubjectAccessReview{Spec: authorization.SelfSubjectAccessReviewSpec{ResourceAttributes: logs}}); !a.(*authorization.SelfSubjectAccessReview).Status.Allowed {
		t.Errorf("he may not: %v", a)
	}
	other := authorization.SubjectAccessReviewSpec{User: "ida", ResourceAttributes: logs}
	if a := ask("subjectaccessreviews", &authorization.SubjectAccessReview{Spec: other}); a.(*authorization.SubjectAccessReview).Status.Allowed {
		t.Errorf("another one may: %v", a)
	}
	if a := ask("localsubjectaccessreviews", &authorization.LocalSubjectAccessReview{Spec: other}); a.(*authorization.LocalSubjectAccessReview).Status.Allowed {
		t.Errorf("another one may: %v", a)
	}
	mine := ask("selfsubjectrulesreviews", &authorization.SelfSubjectRulesReview{Spec: authorization.SelfSubjectRulesReviewSpec{Namespace: "shop"}}).(*authorization.SelfSubjectRulesReview).Status
	if last := mine.ResourceRules[len(mine.ResourceRules)-1]; len(mine.NonResourceRules) != 2 || last.ResourceNames[0] != "settings" {
		t.Errorf("his rules are %v", mine)
	}
	me := ask("selfsubjectreviews", &authentication.SelfSubjectReview{}).(*authentication.SelfSubjectReview).Status.UserInfo
	if me.Username != "lin" || me.Groups[0] != "people" {
		t.Errorf("he is %v", me)
	}
	_, err := all[authorization.SchemeGroupVersion]["subjectaccessreviews"].(rest.Creater).Create(ctx, &authorization.SubjectAccessReview{}, nil, nil)
	if err == nil || err.Error() != "spec: exactly one of nonResourceAttributes or resourceAttributes must be specified" {
		t.Errorf("a question without anything: %v", err)
	}
}
