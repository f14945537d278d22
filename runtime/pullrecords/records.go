// Package pullrecords remembers which images were pulled here, and by whose credentials, so that a Pod cannot use what only
// another one may pull. It knows files and rules, and neither containerd nor registries.
//
// Before something is fetched an intent is written, after it the record; whoever is killed in between leaves the intent,
// and the image is then one that was pulled, but nobody's. An image with neither was there before, or was imported. The rules
// and the files are the kubelet's (kubernetes/kubernetes pkg/kubelet/images/pullmanager): ImagePullIntent in pulling/ and
// ImagePulledRecord in pulled/, named by the sha256 of the image's name or ID.
package pullrecords

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/distribution/reference"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"github.com/podkeeper/podkeeper/runtime/credentials"
)

// Image is one image by all its names.
type Image struct {
	Asked string // as a Pod has it, busybox
	Name  string // in full, docker.io/library/busybox:latest
	ID    string // digest of its configuration; empty where it is not there
}

// repository is the full name without tag and digest: whoever may pull from a repository may pull all that is there.
func (i Image) repository() string {
	named, err := reference.ParseNormalizedNamed(i.Name)
	if err != nil {
		return i.Name
	}
	return reference.TrimNamed(named).Name()
}

// maxSecrets bounds how many Secrets are remembered of one image because they hold what another one held.
const maxSecrets = 100

// Records are the records of one node. They are safe for use by several goroutines. All of them are in memory: to ask reads
// no file.
type Records struct {
	policy     Policy
	store      store
	unreadable error

	writing sync.Mutex // held while files are changed, so that who asks does not wait for the disk

	mu        sync.RWMutex
	pulled    map[string]*kubeletconfig.ImagePulledRecord // by file; replaced, never changed; nil cannot be read
	intents   map[string]int                              // by file: how many pulls go on
	cutOff    map[string]bool                             // by file: intents of pulls whose end is not known
	preloaded map[string]bool                             // by ID: imported
}

// Open reads the records in a folder, which is made. An empty name is a folder that nothing is read from or written to. A
// record that cannot be read, of which Unreadable tells, gives nobody a right.
func Open(dir string, policy Policy) (*Records, error) {
	r := &Records{
		policy: policy, store: store{dir},
		pulled: map[string]*kubeletconfig.ImagePulledRecord{}, intents: map[string]int{},
		cutOff: map[string]bool{}, preloaded: map[string]bool{},
	}
	if err := r.store.make(); err != nil {
		return nil, err
	}
	begun, err := r.store.list(pulling)
	if err != nil {
		return nil, err
	}
	for _, file := range begun {
		r.cutOff[file] = true
	}
	done, err := r.store.list(pulled)
	if err != nil {
		return nil, err
	}
	for _, file := range done {
		record := &kubeletconfig.ImagePulledRecord{}
		if err := r.store.read(pulled, file, record); err != nil || fileOf(record.ImageRef) != file {
			if err == nil {
				err = fmt.Errorf("read pull record %s/%s: it is of image %q", pulled, file, record.ImageRef)
			}
			r.unreadable = errors.Join(r.unreadable, err)
			record = nil
		}
		r.pulled[file] = record
	}
	return r, nil
}

// Unreadable says which records could not be read when they were opened. Who wants to use their images must show the
// registry a right to them.
func (r *Records) Unreadable() error { return r.unreadable }

// Allows says whether a Pod with these credentials may use an image that is present. If not, the registry must say.
func (r *Records) Allows(image Image, has []credentials.Credential) bool {
	r.mu.RLock()
	record, ours := r.pulled[fileOf(image.ID)], r.ours(image)
	r.mu.RUnlock()
	if !r.policy.verifies(image, ours) {
		return true
	}
	if record == nil {
		return false
	}
	granted := record.CredentialMapping[image.repository()]
	if granted.NodePodsAccessible {
		return true
	}
	for _, c := range has {
		if c.OfNode() {
			continue
		}
		mine := ofSecret(c)
		for _, secret := range granted.KubernetesSecrets {
			if secret.CredentialHash == mine.CredentialHash || samePlace(secret, mine) {
				if secret != mine && len(granted.KubernetesSecrets) < maxSecrets {
					_ = r.grant(image, &c) // so that it counts when the other is forgotten; else it is asked again
				}
				return true
			}
		}
	}
	return false
}

// Pulled says whether an image was pulled here, so that it may be had again: neither was it there before, nor imported.
func (r *Records) Pulled(image Image) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.ours(image)
}

// ours is what Pulled says. mu must be held.
func (r *Records) ours(image Image) bool {
	_, recorded := r.pulled[fileOf(image.ID)]
	begun := fileOf(image.Name)
	return (recorded || r.intents[begun] > 0 || r.cutOff[begun]) && !r.preloaded[image.ID]
}

// Forget removes the record of an image that was removed. gone says whether it is: it is asked while no other right to the image
// can be noted, for without a record whatever is there is everyone's.
func (r *Records) Forget(id string, gone func() (bool, error)) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	if yes, err := gone(); err != nil || !yes {
		return err
	}
	file := fileOf(id)
	if err := r.store.remove(pulled, file); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pulled, file)
	return nil
}

// Begin notes that an image is going to be fetched, by its full name. Where that cannot be written, it must not be fetched.
func (r *Records) Begin(name string) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	intent := &kubeletconfig.ImagePullIntent{TypeMeta: typeMeta("ImagePullIntent"), Image: name}
	if err := r.store.write(pulling, fileOf(name), intent); err != nil {
		return fmt.Errorf("note that image is pulled: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.intents[fileOf(name)]++
	return nil
}

// Fail notes that a pull that was begun has brought nothing. What an earlier one, which was cut off, has brought stays
// noted: whether that is whole nobody knows.
func (r *Records) Fail(name string) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	return r.end(name, false)
}

// Doubt notes of a pull that was begun that nobody can tell what it has brought: what there is by that name is nobody's.
func (r *Records) Doubt(name string) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	r.mu.Lock()
	r.cutOff[fileOf(name)] = true
	r.mu.Unlock()
	return r.end(name, false)
}

// end ends one pull of several of a name, and the note with the last of them. writing must be held.
func (r *Records) end(name string, settled bool) error {
	file := fileOf(name)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.intents[file] > 1 {
		r.intents[file]--
		return nil
	}
	delete(r.intents, file)
	if !settled && r.cutOff[file] {
		return nil
	}
	if err := r.store.remove(pulling, file); err != nil {
		r.cutOff[file] = true
		return fmt.Errorf("note that image is pulled no more: %w", err)
	}
	delete(r.cutOff, file)
	return nil
}

// Confirm notes that a registry gives an image that is present to whoever has a credential; nil is everyone. What is noted
// already is not written again.
func (r *Records) Confirm(image Image, by *credentials.Credential) error { return r.grant(image, by) }

// Complete notes that an image that was begun is there, and who may use it: whoever has the credential it was pulled with,
// or everyone where that is the node's, or nil. Where that cannot be written it is nobody's.
func (r *Records) Complete(image Image, by *credentials.Credential) error {
	if err := r.grant(image, by); err != nil {
		return errors.Join(err, r.Doubt(image.Name))
	}
	r.writing.Lock()
	defer r.writing.Unlock()
	return r.end(image.Name, true)
}

// Preload notes that an image was imported: it was not pulled, whatever records there are of earlier times.
func (r *Records) Preload(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.preloaded[id] = true
}

// grant adds a right to an image's record. What is there already is not written again.
func (r *Records) grant(image Image, by *credentials.Credential) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	file, repository := fileOf(image.ID), image.repository()
	r.mu.RLock()
	old := r.pulled[file]
	r.mu.RUnlock()
	record := &kubeletconfig.ImagePulledRecord{
		TypeMeta: typeMeta("ImagePulledRecord"), LastUpdatedTime: metav1.Time{Time: time.Now()}, ImageRef: image.ID,
		CredentialMapping: map[string]kubeletconfig.ImagePullCredentials{},
	}
	if old != nil {
		maps.Copy(record.CredentialMapping, old.CredentialMapping)
	}
	granted, changed := withRight(record.CredentialMapping[repository], by)
	if old != nil && !changed {
		return nil
	}
	record.CredentialMapping[repository] = granted
	if err := r.store.write(pulled, file, record); err != nil {
		return fmt.Errorf("note who may use image: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pulled[file] = record
	return nil
}

// withRight adds the right of whoever has a credential. Where everyone has it there is nothing to add, nor to keep.
func withRight(
	granted kubeletconfig.ImagePullCredentials, by *credentials.Credential,
) (kubeletconfig.ImagePullCredentials, bool) {
	if granted.NodePodsAccessible {
		return granted, false
	}
	if by == nil || by.OfNode() {
		return kubeletconfig.ImagePullCredentials{NodePodsAccessible: true}, true
	}
	mine := ofSecret(*by)
	if slices.Contains(granted.KubernetesSecrets, mine) {
		return granted, false
	}
	secrets := []kubeletconfig.ImagePullSecret{mine}
	for _, secret := range granted.KubernetesSecrets {
		if !samePlace(secret, mine) { // else it holds another password now
			secrets = append(secrets, secret)
		}
	}
	granted.KubernetesSecrets = secrets
	return granted, true
}

func ofSecret(c credentials.Credential) kubeletconfig.ImagePullSecret {
	return kubeletconfig.ImagePullSecret{
		UID: string(c.Secret.UID), Namespace: c.Secret.Namespace, Name: c.Secret.Name, CredentialHash: c.Hash(),
	}
}

// samePlace says whether two are of one Secret, whatever it held when.
func samePlace(a, b kubeletconfig.ImagePullSecret) bool {
	return a.UID == b.UID && a.Namespace == b.Namespace && a.Name == b.Name
}

func typeMeta(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{Kind: kind, APIVersion: kubeletconfig.SchemeGroupVersion.String()}
}
