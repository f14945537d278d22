package table

import (
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func bindingColumns() []metav1.TableColumnDefinition {
	return append(always("Name", "Role", "Age"), wide("Users", "Groups", "ServiceAccounts")...)
}

func roleBinding(b *rbacv1.RoleBinding, now time.Time) []any {
	return append([]any{b.Name, b.RoleRef.Kind + "/" + b.RoleRef.Name, age(b, now)}, subjects(b.Subjects)...)
}

func clusterRoleBinding(b *rbacv1.ClusterRoleBinding, now time.Time) []any {
	return append([]any{b.Name, b.RoleRef.Kind + "/" + b.RoleRef.Name, age(b, now)}, subjects(b.Subjects)...)
}

// subjects are the users, the groups and the service accounts.
func subjects(all []rbacv1.Subject) []any {
	var users, groups, accounts []string
	for _, s := range all {
		switch s.Kind {
		case rbacv1.UserKind:
			users = append(users, s.Name)
		case rbacv1.GroupKind:
			groups = append(groups, s.Name)
		case rbacv1.ServiceAccountKind:
			accounts = append(accounts, s.Namespace+"/"+s.Name)
		}
	}
	return []any{strings.Join(users, ", "), strings.Join(groups, ", "), strings.Join(accounts, ", ")}
}
