package access

import (
	"context"

	authentication "k8s.io/api/authentication/v1"
	authorization "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
)

// Reviews answers the storages of what may be asked about rights, by group version and resource.
func (r *Rules) Reviews() map[schema.GroupVersion]map[string]rest.Storage {
	return map[schema.GroupVersion]map[string]rest.Storage{
		authorization.SchemeGroupVersion: {
			"selfsubjectaccessreviews":  &review{object: &authorization.SelfSubjectAccessReview{}, singular: "selfsubjectaccessreview", answer: r.mayI},
			"selfsubjectrulesreviews":   &review{object: &authorization.SelfSubjectRulesReview{}, singular: "selfsubjectrulesreview", answer: r.whatMayI},
			"subjectaccessreviews":      &review{object: &authorization.SubjectAccessReview{}, singular: "subjectaccessreview", answer: r.mayHe},
			"localsubjectaccessreviews": &review{object: &authorization.LocalSubjectAccessReview{}, singular: "localsubjectaccessreview", namespaced: true, answer: r.mayHeHere},
		},
		authentication.SchemeGroupVersion: {
			"selfsubjectreviews": &review{object: &authentication.SelfSubjectReview{}, singular: "selfsubjectreview", answer: whoAmI},
		},
	}
}

// review is a question that is answered and not kept.
type review struct {
	object     runtime.Object
	singular   string
	namespaced bool
	answer     func(ctx context.Context, question runtime.Object) error // fills in the status
}

// New is an empty question.
func (v *review) New() runtime.Object { return v.object.DeepCopyObject() }

// Destroy lets go of nothing.
func (v *review) Destroy() {}

// NamespaceScoped tells whether it is asked in a namespace.
func (v *review) NamespaceScoped() bool { return v.namespaced }

// GetSingularName is what one of them is called.
func (v *review) GetSingularName() string { return v.singular }

// Create answers a question.
func (v *review) Create(ctx context.Context, question runtime.Object, _ rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	return question, v.answer(ctx, question)
}

func asker(ctx context.Context) (user.Info, error) {
	who, ok := request.UserFrom(ctx)
	if !ok {
		return nil, errors.NewUnauthorized("it is not known who asks")
	}
	return who, nil
}

func whoAmI(ctx context.Context, o runtime.Object) error {
	who, err := asker(ctx)
	if err != nil {
		return err
	}
	o.(*authentication.SelfSubjectReview).Status.UserInfo = authentication.UserInfo{Username: who.GetName(), Groups: who.GetGroups()}
	return nil
}

func (r *Rules) mayI(ctx context.Context, o runtime.Object) error {
	who, err := asker(ctx)
	if err != nil {
		return err
	}
	q := o.(*authorization.SelfSubjectAccessReview)
	return r.judge(ctx, &q.Status, who, q.Spec.ResourceAttributes, q.Spec.NonResourceAttributes)
}

func (r *Rules) mayHe(ctx context.Context, o runtime.Object) error {
	q := o.(*authorization.SubjectAccessReview)
	return r.judge(ctx, &q.Status, subject(q.Spec), q.Spec.ResourceAttributes, q.Spec.NonResourceAttributes)
}

func (r *Rules) mayHeHere(ctx context.Context, o runtime.Object) error {
	q := o.(*authorization.LocalSubjectAccessReview)
	if of := q.Spec.ResourceAttributes; of == nil || of.Namespace != request.NamespaceValue(ctx) {
		return errors.NewBadRequest("spec.resourceAttributes.namespace must match namespace: " + request.NamespaceValue(ctx))
	}
	return r.judge(ctx, &q.Status, subject(q.Spec), q.Spec.ResourceAttributes, nil)
}

func subject(spec authorization.SubjectAccessReviewSpec) user.Info {
	return &user.DefaultInfo{Name: spec.User, UID: spec.UID, Groups: spec.Groups}
}

// judge fills in whether somebody may.
func (r *Rules) judge(ctx context.Context, status *authorization.SubjectAccessReviewStatus, who user.Info, resource *authorization.ResourceAttributes, path *authorization.NonResourceAttributes) error {
	a := authorizer.AttributesRecord{User: who}
	switch {
	case (resource == nil) == (path == nil):
		return errors.NewBadRequest("spec: exactly one of nonResourceAttributes or resourceAttributes must be specified")
	case resource != nil:
		a.ResourceRequest, a.Verb, a.Namespace, a.APIGroup, a.APIVersion = true, resource.Verb, resource.Namespace, resource.Group, resource.Version
		a.Resource, a.Subresource, a.Name = resource.Resource, resource.Subresource, resource.Name
	default:
		a.Verb, a.Path = path.Verb, path.Path
	}
	decision, reason, err := r.Authorize(ctx, a)
	status.Allowed, status.Reason = decision == authorizer.DecisionAllow, reason
	return err
}

func (r *Rules) whatMayI(ctx context.Context, o runtime.Object) error {
	who, err := asker(ctx)
	if err != nil {
		return err
	}
	q := o.(*authorization.SelfSubjectRulesReview)
	q.Status = authorization.SubjectRulesReviewStatus{ResourceRules: []authorization.ResourceRule{}, NonResourceRules: []authorization.NonResourceRule{}}
	for _, g := range r.grants(who) {
		switch rule := g.rule; {
		case g.namespace != "" && g.namespace != q.Spec.Namespace:
		case len(rule.NonResourceURLs) > 0:
			q.Status.NonResourceRules = append(q.Status.NonResourceRules, authorization.NonResourceRule{Verbs: rule.Verbs, NonResourceURLs: rule.NonResourceURLs})
		default:
			q.Status.ResourceRules = append(q.Status.ResourceRules, authorization.ResourceRule{
				Verbs: rule.Verbs, APIGroups: rule.APIGroups, Resources: rule.Resources, ResourceNames: rule.ResourceNames,
			})
		}
	}
	return nil
}
