package agent

import (
	"context"
	"errors"
	"testing"

	v1 "k8s.io/api/core/v1"
)

// labelled is a Pod with a volume that tells of its labels.
func (a *agency) labelled(version string) *v1.Pod {
	p := a.pod("app")
	p.Labels = map[string]string{"version": version}
	p.Spec.Volumes = []v1.Volume{{Name: "about", VolumeSource: v1.VolumeSource{DownwardAPI: &v1.DownwardAPIVolumeSource{}}}}
	return p
}

func TestFilesInVolumesFollowThePod(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.wish(a.labelled("1"), "1")
		a.pass(2)
		a.expect("refresh") // they are made with the sandbox
		a.wish(a.labelled("2"), "2")
		a.pass(3)
		a.expect("refresh", "2 refresh 2")

		tries := 0
		a.host.set(func() {
			a.host.refresh = func(context.Context) error {
				if tries++; tries < 3 {
					return errors.New("no room")
				}
				return nil
			}
		})
		a.wish(a.labelled("3"), "3")
		a.pass(20) // again after 1 and 2 s
		a.expect("refresh", "2 refresh 2", "3 refresh 3", "4 refresh 3", "6 refresh 3")

		a.succeed() // one agent after another: the edit before may not have come to the files
		a.pass(25)
		a.expect("refresh", "2 refresh 2", "3 refresh 3", "4 refresh 3", "6 refresh 3", "20 refresh 3")
		a.expect("term")
	})
}

func TestTheEndOfAPodWaitsForFilesThatAreBeingWritten(t *testing.T) {
	inBubble(t, func(a *agency) {
		a.wish(a.labelled("1"), "1")
		a.pass(2)
		a.host.set(func() {
			a.host.refresh = func(ctx context.Context) error {
				<-ctx.Done() // it is told, and takes its time
				a.pass(10)
				return ctx.Err()
			}
		})
		a.wish(a.labelled("2"), "2")
		a.pass(3)
		a.w.want(nil)
		a.pass(20)
		a.expect("tear down", "10 tear down")
	})
}
