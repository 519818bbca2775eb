// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package parts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/larder-project/larder/test/landscape/progress"
)

// CacheVariable is the environment variable with the cache directory, by default in the user's cache directory.
const CacheVariable = "LARDER_PARTS_CACHE"

// Builder builds programs.
type Builder struct {
	// Repository is the root of this repository. Its own programs are built into its directory bin.
	Repository string
	// Cache is the directory of all other programs, see DefaultCache.
	Cache string
	// Progress shows the current build.
	Progress *progress.Log
	// Log receives the output of the go command.
	Log io.Writer
}

// DefaultCache returns the directory that all checkouts of this user share.
func DefaultCache() (string, error) {
	if dir := os.Getenv(CacheVariable); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the user's cache directory (or set %s): %w", CacheVariable, err)
	}
	return filepath.Join(dir, "larder", "parts"), nil
}

// OwnPath returns the path of one of this repository's own programs.
func OwnPath(repository, name string) string {
	return filepath.Join(repository, "bin", name)
}

// Find returns the paths of the named programs, which must have been built.
func (b *Builder) Find(names ...string) (map[string]string, error) {
	targets, err := b.targets(names)
	if err != nil {
		return nil, err
	}
	paths := map[string]string{}
	for _, target := range targets {
		for _, program := range target.programs {
			for _, name := range program.names {
				path := filepath.Join(target.dir, name)
				if _, err := os.Stat(path); err != nil {
					return nil, fmt.Errorf("find program %s, which \"make programs\" builds: %w", name, err)
				}
				paths[name] = path
			}
		}
	}
	return paths, nil
}

// Build builds the named programs unless they are up to date, and returns their paths.
func (b *Builder) Build(ctx context.Context, names ...string) (map[string]string, error) {
	targets, err := b.targets(names)
	if err != nil {
		return nil, err
	}
	var pending []*target
	for _, target := range targets {
		if target.programs, err = target.missing(); err != nil {
			return nil, err
		}
		if len(target.programs) > 0 {
			pending = append(pending, target)
		}
	}
	if len(pending) > 0 {
		if err := b.build(ctx, pending); err != nil {
			return nil, err
		}
	}
	return b.Find(names...)
}

// targets returns the targets of the named programs.
func (b *Builder) targets(names []string) ([]*target, error) {
	var targets []*target
	for _, module := range catalog {
		var programs []program
		for _, program := range module.programs {
			if slices.ContainsFunc(program.names, func(name string) bool { return slices.Contains(names, name) }) {
				programs = append(programs, program)
			}
		}
		if len(programs) == 0 {
			continue
		}
		target, err := b.target(module, programs)
		if err != nil {
			return nil, err
		}
		targets = append(targets, target)
	}
	for _, name := range names {
		if !slices.Contains(All(), name) {
			return nil, fmt.Errorf("unknown program %q", name)
		}
	}
	return targets, nil
}

// build plans and builds the targets in order. During a build, the modules of the next ones are downloaded.
func (b *Builder) build(ctx context.Context, targets []*target) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	step := b.Progress.Begin("Build the programs")
	work := newTally(step)

	type planned struct {
		*target
		plan *plan
	}
	plans := make(chan planned, len(targets))
	go func() {
		defer close(plans)
		for _, target := range targets {
			plan, err := target.plan(ctx, b.Log, work.downloading)
			if err != nil {
				// A partial build is of no use.
				cancel(err)
				return
			}
			work.add(plan)
			plans <- planned{target, plan}
		}
		work.complete()
	}()
	for next := range plans {
		err := next.build(ctx, b.Log, next.plan, work)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			return step.Done(err)
		}
	}
	return step.Done(context.Cause(ctx))
}

// target is a set of programs that one call of the go command builds.
type target struct {
	// source is the directory of the Go module.
	source string
	module module
	// dir is the directory of the programs.
	dir      string
	programs []program
	flags    []string
	// volatile means that only the go command knows whether the programs are up to date.
	volatile bool
}

// target returns the target of the module's programs.
func (b *Builder) target(m module, programs []program) (*target, error) {
	t := &target{source: b.Repository, module: m, programs: programs, dir: filepath.Join(b.Repository, "bin"), volatile: true}
	if m.name != "" {
		t.source = filepath.Join(b.Repository, "test", "landscape", "parts", m.name)
	}
	var err error
	if t.flags, err = t.buildFlags(); err != nil {
		return nil, err
	}
	if m.name == "" {
		return t, nil
	}
	key, err := cacheKey(t.source, t.flags)
	if err != nil {
		return nil, err
	}
	t.volatile = false
	t.dir = filepath.Join(b.Cache, m.name+"-"+key)
	return t, nil
}

// missing returns the programs that may have to be built.
func (t *target) missing() ([]program, error) {
	if t.volatile {
		return t.programs, nil
	}
	var missing []program
	for _, program := range t.programs {
		for _, name := range program.names {
			_, err := os.Stat(filepath.Join(t.dir, name))
			if errors.Is(err, fs.ErrNotExist) {
				missing = append(missing, program)
				break
			}
			if err != nil {
				return nil, err
			}
		}
	}
	return missing, nil
}

// build builds the programs.
func (t *target) build(ctx context.Context, log io.Writer, plan *plan, work *tally) error {
	defer work.finish(plan)
	if err := os.MkdirAll(t.dir, 0o755); err != nil { // #nosec G301 -- programs for all users.
		return err
	}
	unlock, err := lock(ctx, filepath.Join(t.dir, ".lock"), func() { work.waiting(t.dir) })
	if err != nil {
		return err
	}
	defer unlock()
	if t.volatile {
		// The go command skips programs that are up to date.
		return t.compile(ctx, log, t.dir, plan, work)
	}
	// Another process may have built them meanwhile.
	if t.programs, err = t.missing(); err != nil || len(t.programs) == 0 {
		return err
	}
	// Complete programs appear atomically.
	aside, err := os.MkdirTemp(t.dir, ".build-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(aside) }()
	if err := t.compile(ctx, log, aside, plan, work); err != nil {
		return err
	}
	return t.link(aside, t.dir)
}

// link creates the names of the programs. The links are hard ones, because the programs are linked elsewhere again.
func (t *target) link(from, to string) error {
	for _, program := range t.programs {
		built := filepath.Join(from, program.file())
		for _, name := range program.names {
			path := filepath.Join(to, name)
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if err := os.Link(built, path); err != nil {
				return err
			}
		}
	}
	return nil
}

// compile runs go build.
func (t *target) compile(ctx context.Context, log io.Writer, dir string, plan *plan, work *tally) error {
	args := append([]string{"build", "-v", "-o", dir + string(filepath.Separator)}, t.flags...)
	for _, program := range t.programs {
		args = append(args, program.pkg)
	}
	isProgress := func(line string) bool { return work.started(plan, line) }
	if err := t.goCommand(ctx, nil, log, isProgress, args...); err != nil {
		return fmt.Errorf("build %s: %w", t, err)
	}
	return nil
}
