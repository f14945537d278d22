package tokens

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"k8s.io/client-go/util/keyutil"
)

var noon = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// web is a token of a Pod.
func web() Token {
	return Token{
		Namespace: "shop", Account: Ref{"builder", "a-1"}, Pod: &Ref{"web", "p-1"}, Node: &Ref{"n1", "n-1"}, Audiences: []string{"vault"},
		ID: "t-1", Issued: noon, Expires: noon.Add(time.Hour),
	}
}

func part(t *testing.T, encoded string) []byte {
	t.Helper()
	decoded, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	return decoded
}

// The claims are those of kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin, and the signature is checked with
// nothing but the standard library (RFC 7518, 3.4).
func TestATokenIsAsKubernetesMakesIt(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	signed, err := Sign(web(), key)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(signed, ".")
	if len(parts) != 3 {
		t.Fatalf("it has %d parts: %s", len(parts), signed)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	kid := sha256.Sum256(der)
	var got, want any
	for i, text := range []string{
		`{"alg": "ES256", "kid": "` + base64.RawURLEncoding.EncodeToString(kid[:]) + `"}`,
		`{
		  "iss": "https://kubernetes.default.svc.cluster.local", "sub": "system:serviceaccount:shop:builder", "aud": ["vault"], "jti": "t-1",
		  "iat": 1769860800, "nbf": 1769860800, "exp": 1769864400,
		  "kubernetes.io": {
		    "namespace": "shop", "node": {"name": "n1", "uid": "n-1"}, "pod": {"name": "web", "uid": "p-1"}, "serviceaccount": {"name": "builder", "uid": "a-1"}
		  }
		}`,
	} {
		if err := json.Unmarshal(part(t, parts[i]), &got); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("part %d: %s, want %s", i, part(t, parts[i]), text)
		}
	}
	sum, signature := sha256.Sum256([]byte(parts[0]+"."+parts[1])), part(t, parts[2])
	if len(signature) != 64 || !ecdsa.Verify(&key.PublicKey, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
		t.Error("the signature is wrong")
	}
	read, err := Read(signed, &key.PublicKey, noon)
	if err != nil {
		t.Fatal(err)
	}
	read.Issued, read.Expires = read.Issued.UTC(), read.Expires.UTC()
	if !reflect.DeepEqual(read, web()) {
		t.Errorf("it is read as %+v", read)
	}
}

func TestTokensThatAreNotTaken(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	signed := func(key any, algorithm jose.SignatureAlgorithm, claims any) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := jwt.Signed(signer).Claims(claims).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	own, err := Sign(web(), key)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(own, ".")
	forged := parts[0] + "." + base64.RawURLEncoding.EncodeToString(bytes.Replace(part(t, parts[1]), []byte("builder"), []byte("admin"), 1)) + "." + parts[2]
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
	for sentence, of := range map[string]struct {
		token string
		at    time.Time
		want  string // "" is taken
	}{
		"one that is valid is taken":                   {own, noon, ""},
		"until its end, and a minute of another clock": {own, noon.Add(time.Hour + 59*time.Second), ""},
		"not after it":                                  {own, noon.Add(time.Hour + 61*time.Second), "service account token has expired"},
		"nor before its beginning":                      {own, noon.Add(-61 * time.Second), "service account token is not valid yet"},
		"nor with other claims":                         {forged, noon, "invalid signature"},
		"nor of another key":                            {signed(newKey(t), jose.ES256, jwt.Claims{Issuer: Issuer}), noon, "invalid signature"},
		"nor of another issuer":                         {signed(key, jose.ES256, jwt.Claims{Issuer: "https://elsewhere"}), noon, "invalid bearer token"},
		"nor without a signature":                       {unsigned, noon, "invalid bearer token"},
		"nor signed with the public key as a password":  {signed([]byte("0123456789abcdef0123456789abcdef"), jose.HS256, jwt.Claims{Issuer: Issuer}), noon, "invalid bearer token"},
		"nor what is no token":                          {"secret", noon, "invalid bearer token"},
		"nor nothing":                                   {"", noon, "invalid bearer token"},
		"nor one that says nothing of when it was made": {signed(key, jose.ES256, jwt.Claims{Issuer: Issuer}), noon, "invalid bearer token"},
	} {
		_, err := Read(of.token, &key.PublicKey, of.at)
		if (err == nil) != (of.want == "") || err != nil && !strings.HasPrefix(err.Error(), of.want) {
			t.Errorf("%s: %v, want %q", sentence, err, of.want)
		}
	}
}

func TestKeysInPEM(t *testing.T) {
	t.Parallel()
	private, err := keyutil.MakeEllipticPrivateKeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	key, err := PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public, err := PublicKey(pem.EncodeToMemory(&pem.Block{Type: keyutil.PublicKeyBlockType, Bytes: der}))
	if err != nil || !public.Equal(&key.PublicKey) {
		t.Errorf("it is not the same key: %v", err)
	}
	for _, wrong := range []string{"", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"} {
		if _, err := PrivateKey([]byte(wrong)); err == nil {
			t.Errorf("%q is taken for a private key", wrong)
		}
		if _, err := PublicKey([]byte(wrong)); err == nil {
			t.Errorf("%q is taken for a public key", wrong)
		}
	}
}
