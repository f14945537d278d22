package pki

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	clientcmd "k8s.io/client-go/tools/clientcmd/api/v1"
	"sigs.k8s.io/yaml"
)

// cluster is the node's name in kubeconfigs, and that of the context.
const cluster = "podkeeper"

// Kubeconfig is what kubectl is told of the node.
type Kubeconfig struct {
	Server    string // the URL of the API
	User      string
	Namespace string // that of commands that name none
}

// Encode is the file for who has the pair.
func (k Kubeconfig) Encode(p Pair) ([]byte, error) {
	encoded, err := yaml.Marshal(clientcmd.Config{
		APIVersion: "v1", Kind: "Config", CurrentContext: cluster,
		Clusters:  []clientcmd.NamedCluster{{Name: cluster, Cluster: clientcmd.Cluster{Server: k.Server, CertificateAuthorityData: p.Authority}}},
		AuthInfos: []clientcmd.NamedAuthInfo{{Name: k.User, AuthInfo: clientcmd.AuthInfo{ClientCertificateData: p.Certificate, ClientKeyData: p.Key}}},
		Contexts:  []clientcmd.NamedContext{{Name: cluster, Context: clientcmd.Context{Cluster: cluster, AuthInfo: k.User, Namespace: k.Namespace}}},
	})
	if err != nil {
		return nil, fmt.Errorf("encode kubeconfig: %w", err)
	}
	return encoded, nil
}

// serverURL is where clients on the node find an API that listens at an address.
func serverURL(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "https://" + address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "https://" + net.JoinHostPort(host, port)
}

// ReadKubeconfig reads a file that Encode has made, and until when its certificate is valid. The error is fs.ErrNotExist where
// there is no such file.
func ReadKubeconfig(file string) (Kubeconfig, time.Time, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return Kubeconfig{}, time.Time{}, fmt.Errorf("read kubeconfig: %w", err)
	}
	var config clientcmd.Config
	err = yaml.Unmarshal(content, &config)
	if err == nil && (len(config.Clusters) != 1 || len(config.AuthInfos) != 1 || len(config.Contexts) != 1) {
		err = errors.New("it is not as podkeeper writes it")
	}
	var shown *x509.Certificate
	if err == nil {
		shown, err = parse(config.AuthInfos[0].AuthInfo.ClientCertificateData)
	}
	if err != nil {
		return Kubeconfig{}, time.Time{}, fmt.Errorf("read kubeconfig %s: %w: restart podkeeper, which writes it anew", file, err)
	}
	return Kubeconfig{
		Server: config.Clusters[0].Cluster.Server, User: config.AuthInfos[0].Name, Namespace: config.Contexts[0].Context.Namespace,
	}, shown.NotAfter, nil
}

// parse reads a certificate.
func parse(certificate []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(certificate)
	if block == nil {
		return nil, errors.New("it has no certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}
