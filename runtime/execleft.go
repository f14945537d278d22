package runtime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// LeftExecs looks for commands that an agent which was killed has left in those folders for pipes, and answers what kills them
// with all that they have started, and removes what is left of them. Commands that are begun after the look are not among them.
func (r *Runtime) LeftExecs(dirs []string) (end func(context.Context) error) {
	left := map[execution][]string{}
	for _, dir := range dirs {
		pipes, _ := os.ReadDir(dir)
		for _, pipe := range pipes {
			var e execution
			if parts := strings.Split(pipe.Name(), "."); len(parts) == 3 {
				e = execution{parts[0], parts[1]}
			}
			left[e] = append(left[e], filepath.Join(dir, pipe.Name()))
		}
	}
	return func(ctx context.Context) error {
		var errs []error
		for e, pipes := range left {
			err := r.endExec(ctx, e)
			for _, pipe := range pipes {
				if err == nil {
					err = os.Remove(pipe)
				}
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}
}

// endExec kills a command that nobody waits for. None is no error.
func (r *Runtime) endExec(ctx context.Context, e execution) error {
	if e.id == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, execCleanup)
	defer cancel()
	if err := r.killExec(ctx, e, true); err != nil {
		return err
	}
	return r.forgetExec(ctx, e)
}
