package providers

import "testing"

// FuzzAnswers has a program answer whatever comes: there are credentials in it, or an error that does not repeat it.
func FuzzAnswers(f *testing.F) {
	for _, answer := range []string{
		answerHead + `"cacheKeyType": "Image", "auth": {"a.io": {"username": "u", "password": "p"}}}`,
		answerHead + `"cacheKeyType": "Registry", "cacheDuration": "-5s", "auth": {"*.io:99999/%2e": {}, "": null, "://": {}}}`,
		answerHead + `"cacheKeyType": "Global", "auth": null} {}`, `{}`, `[]`, `null`, ``,
	} {
		f.Add([]byte(answer), "a.io/team/app")
	}
	f.Fuzz(func(t *testing.T, answer []byte, image string) {
		p := &program{apiVersion: "credentialprovider.kubelet.k8s.io/v1"}
		response, err := p.read(answer)
		if err != nil {
			return
		}
		all, err := p.take(response, image)
		if err == nil && len(all) > len(response.Auth) {
			t.Errorf("%d credentials of %d", len(all), len(response.Auth))
		}
		for _, c := range all {
			if !c.OfNode() {
				t.Errorf("%v is a Secret's", c)
			}
		}
	})
}
