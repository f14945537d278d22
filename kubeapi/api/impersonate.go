package api

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	authentication "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
)

// impersonated is whom somebody asks as, by Impersonate- headers: himself, or who he may be
// (kubernetes.io/docs/reference/access-authn-authz/user-impersonation). The error says that he may not.
func (a *api) impersonated(r *http.Request, who user.Info) (user.Info, error) {
	as := &user.DefaultInfo{
		Name: r.Header.Get(authentication.ImpersonateUserHeader), UID: r.Header.Get(authentication.ImpersonateUIDHeader),
		Groups: slices.Clone(r.Header[authentication.ImpersonateGroupHeader]), Extra: extra(r.Header),
	}
	if as.Name == "" {
		if as.UID != "" || len(as.Groups) > 0 || len(as.Extra) > 0 {
			return nil, errors.NewBadRequest("groups, a UID and extra fields can be impersonated with a user only (" + authentication.ImpersonateUserHeader + ")")
		}
		return who, nil
	}
	for _, claim := range claims(as) {
		claim.User, claim.Verb, claim.ResourceRequest = who, "impersonate", true
		if decision, reason, err := a.Authorizer.Authorize(r.Context(), claim); decision != authorizer.DecisionAllow {
			if err != nil {
				return nil, errors.NewInternalError(err)
			}
			return nil, responsewriters.ForbiddenStatusError(claim, reason)
		}
	}
	if namespace, _, err := serviceaccount.SplitUsername(as.Name); err == nil && len(as.Groups) == 0 {
		as.Groups = serviceaccount.MakeGroupNames(namespace)
	}
	if as.Name != user.Anonymous && !slices.Contains(as.Groups, user.AllAuthenticated) {
		as.Groups = append(as.Groups, user.AllAuthenticated)
	}
	return as, nil
}

// extra are the extra fields that headers give.
func extra(header http.Header) map[string][]string {
	found := map[string][]string{}
	for name, values := range header {
		if key, is := strings.CutPrefix(name, authentication.ImpersonateUserExtraHeaderPrefix); is {
			key = strings.ToLower(key)
			if plain, err := url.PathUnescape(key); err == nil {
				key = plain
			}
			found[key] = values
		}
	}
	return found
}

// claims are what somebody must be allowed to impersonate to be another one.
func claims(as *user.DefaultInfo) []authorizer.AttributesRecord {
	var all []authorizer.AttributesRecord
	if namespace, name, err := serviceaccount.SplitUsername(as.Name); err == nil {
		all = append(all, authorizer.AttributesRecord{Resource: "serviceaccounts", Namespace: namespace, Name: name, APIVersion: v1.SchemeGroupVersion.Version})
	} else {
		all = append(all, authorizer.AttributesRecord{Resource: "users", Name: as.Name, APIVersion: v1.SchemeGroupVersion.Version})
	}
	for _, group := range as.Groups {
		all = append(all, authorizer.AttributesRecord{Resource: "groups", Name: group, APIVersion: v1.SchemeGroupVersion.Version})
	}
	of := authorizer.AttributesRecord{APIGroup: authentication.GroupName, APIVersion: authentication.SchemeGroupVersion.Version}
	if as.UID != "" {
		of.Resource, of.Name = "uids", as.UID
		all = append(all, of)
	}
	for key, values := range as.Extra {
		for _, value := range values {
			of.Resource, of.Subresource, of.Name = "userextras", key, value
			all = append(all, of)
		}
	}
	return all
}
