package credentials

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// ErrNotForPulls is that a Secret holds no credentials of registries, by its type. The kubelet takes no notice of such a
// Secret in imagePullSecrets (kubernetes/kubernetes pkg/credentialprovider/secrets).
var ErrNotForPulls = fmt.Errorf("must be of type %s or %s", v1.SecretTypeDockerConfigJson, v1.SecretTypeDockercfg)

// FromSecret reads the credentials that a Secret holds, ordered by the registries. Errors name the Secret and say what is
// wrong with it in words that hold nothing of its content; ErrNotForPulls is one for a Secret of another type. Of an entry,
// Kubernetes takes username and password, or auth, which wins over them; tokens it does not take
// (kubernetes/kubernetes pkg/credentialprovider/config.go).
func FromSecret(secret *v1.Secret) ([]Credential, error) {
	from := Secret{secret.Namespace, secret.Name, secret.UID}
	var all []Credential
	var err error
	switch secret.Type {
	case v1.SecretTypeDockerConfigJson:
		if all, err = FromConfig(secret.Data[v1.DockerConfigJsonKey]); err != nil {
			err = fmt.Errorf("%s: %w", v1.DockerConfigJsonKey, err)
		}
	case v1.SecretTypeDockercfg:
		var auths map[string]entry
		if err = decode(secret.Data[v1.DockerConfigKey], &auths); err == nil {
			all, err = fromEntries(auths)
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", v1.DockerConfigKey, err)
		}
	default:
		err = fmt.Errorf("type %q: %w", secret.Type, ErrNotForPulls)
	}
	if err != nil {
		return nil, fmt.Errorf("read secret %s/%s: %w", secret.Namespace, secret.Name, err)
	}
	for i := range all {
		all[i].Secret = from
	}
	return all, nil
}

// FromConfig reads the credentials in a docker config.json, ordered by the registries. Errors hold nothing of its content.
// Nothing at all is no credentials.
func FromConfig(config []byte) ([]Credential, error) {
	var content struct {
		Auths map[string]entry `json:"auths"`
	}
	if err := decode(config, &content); err != nil {
		return nil, err
	}
	return fromEntries(content.Auths)
}

// entry is what stands behind a registry's name.
type entry struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Auth     string `json:"auth"`
}

// decode reads JSON. What the decoder says of it would quote it.
func decode(text []byte, into any) error {
	if len(text) == 0 {
		return nil
	}
	err := json.Unmarshal(text, into)
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("is not JSON, at byte %d", syntax.Offset)
	case errors.As(err, &kind):
		return fmt.Errorf("has a value of the wrong type, at byte %d", kind.Offset)
	case err != nil:
		return errors.New("is not JSON of the right form")
	}
	return nil
}

func fromEntries(entries map[string]entry) ([]Credential, error) {
	var all []Credential
	for name, e := range entries {
		if e.Auth != "" {
			var ok bool
			if e.Username, e.Password, ok = decodeAuth(e.Auth); !ok {
				return nil, errors.New("an auth is not base64 of username:password")
			}
		}
		registry, ok := registryKey(name)
		if ok && (e.Username != "" || e.Password != "") {
			all = append(all, Credential{Registry: registry, Username: e.Username, Password: e.Password})
		}
	}
	slices.SortFunc(all, func(a, b Credential) int {
		if order := strings.Compare(a.Registry, b.Registry); order != 0 {
			return order
		}
		return strings.Compare(a.Hash(), b.Hash()) // several names may mean one registry: no order of a map's
	})
	return all, nil
}

// decodeAuth takes an auth apart. Padding may be left out.
func decodeAuth(auth string) (username, password string, ok bool) {
	decoded, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(auth), "="))
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(decoded), ":")
}
