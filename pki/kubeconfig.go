package pki

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

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

// ReadServer is the URL of the API that a kubeconfig names. The error is fs.ErrNotExist where there is no such file.
func ReadServer(file string) (string, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read kubeconfig: %w", err)
	}
	var config clientcmd.Config
	if err := yaml.Unmarshal(content, &config); err != nil {
		return "", fmt.Errorf("read kubeconfig %s: %w", file, err)
	}
	for _, c := range config.Clusters {
		if c.Name == cluster {
			return c.Cluster.Server, nil
		}
	}
	return "", fmt.Errorf("read kubeconfig %s: it names no cluster %s: remove it, and restart podkeeper, which writes it", filepath.Clean(file), cluster)
}
