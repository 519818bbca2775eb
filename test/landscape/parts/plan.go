// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package parts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/larder-project/larder/test/landscape/progress"
)

// plan is what has to be compiled for a target.
type plan struct {
	// packages has a key for each package by its import path: packages of
	// different versions are different work.
	packages map[string]string
	// weights are what the packages cost to compile, by key, in bytes of source.
	weights map[string]int64
}

// packageWeight is what a package costs without any source: a compiler is
// started, and reads what the package imports.
const packageWeight = 30_000

// linkWeight is what linking weighs beside compiling the same source.
const linkWeight = 0.02

// listed is what go list says of a package.
type listed struct {
	ImportPath string
	Dir        string
	Name       string
	GoFiles    []string
	Stale      bool
	Module     *struct{ Version string }
}

// plan asks the go command which packages it would have to compile. It
// downloads the modules that are missing.
func (t *target) plan(ctx context.Context, log io.Writer, downloading func(module string)) (*plan, error) {
	isProgress := func(line string) bool {
		module, ok := strings.CutPrefix(line, "go: downloading ")
		if ok {
			downloading(module)
		}
		return ok
	}
	args := append([]string{"list", "-deps", "-json=ImportPath,Dir,Name,GoFiles,Stale,Module"}, t.flags...)
	for _, program := range t.programs {
		args = append(args, program.pkg)
	}
	var output bytes.Buffer
	if err := t.goCommand(ctx, &output, log, isProgress, args...); err != nil {
		return nil, fmt.Errorf("list the packages of %s: %w", t, err)
	}
	return readPlan(&output, sourceSize)
}

// readPlan reads the output of go list.
func readPlan(output io.Reader, size func(listed) int64) (*plan, error) {
	p := &plan{packages: map[string]string{}, weights: map[string]int64{}}
	var all int64
	programs := map[string]string{}
	for decoder := json.NewDecoder(output); ; {
		var pkg listed
		err := decoder.Decode(&pkg)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the output of go list: %w", err)
		}
		key := pkg.ImportPath
		if pkg.Module != nil {
			key += "@" + pkg.Module.Version
		}
		source := size(pkg)
		all += source
		weight := packageWeight + source
		if pkg.Name == "main" {
			programs[pkg.ImportPath] = key
		}
		if pkg.Stale {
			p.packages[pkg.ImportPath], p.weights[key] = key, weight
		}
	}
	// Linking cost grows with the size of everything linked in.
	for path, key := range programs {
		if _, stale := p.packages[path]; stale {
			p.weights[key] += int64(linkWeight * float64(all))
		}
	}
	return p, nil
}

func sourceSize(pkg listed) int64 {
	var size int64
	for _, name := range pkg.GoFiles {
		if info, err := os.Stat(filepath.Join(pkg.Dir, name)); err == nil {
			size += info.Size()
		}
	}
	return size
}

// tally counts work and shows how far it is. It is safe for concurrent use.
type tally struct {
	step *progress.Step
	now  func() time.Time

	mu sync.Mutex
	// weights are those of all packages that are known to be compiled, done or not.
	weights map[string]int64
	done    map[string]bool
	// known says that no further packages are to come.
	known      bool
	downloaded int
	first      time.Time
}

func newTally(step *progress.Step) *tally {
	step.Update("looking at what there is to do")
	return &tally{step: step, now: time.Now, weights: map[string]int64{}, done: map[string]bool{}}
}

// downloading counts a module.
func (t *tally) downloading(module string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.downloaded++
	// While packages are compiled, those are the news.
	if t.first.IsZero() {
		t.step.Update("downloading module %d: %s", t.downloaded, module)
	}
}

// waiting says that another process builds the same.
func (t *tally) waiting(dir string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.step.Update("waiting for another build into %s", dir)
}

// add adds what a plan has.
func (t *tally) add(p *plan) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, weight := range p.weights {
		t.weights[key] = weight
	}
}

// complete says that all plans were added.
func (t *tally) complete() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known = true
}

// started takes a line of the go command and reports whether it names a
// package of the plan, which is being compiled from now on.
func (t *tally) started(p *plan, line string) bool {
	key, ok := p.packages[line]
	if !ok {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first.IsZero() {
		t.first = t.now()
	}
	t.done[key] = true
	t.step.Update("%s · %s", t.summary(), line)
	return true
}

// finish counts all packages of the plan as done.
func (t *tally) finish(p *plan) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key := range p.weights {
		t.done[key] = true
	}
}

// summary says how much is done and how long the rest may take.
func (t *tally) summary() string {
	var done, all int64
	for key, weight := range t.weights {
		all += weight
		if t.done[key] {
			done += weight
		}
	}
	text := fmt.Sprintf("%d of %d packages", len(t.done), len(t.weights))
	if !t.known {
		return text + " and more"
	}
	return text + ", " + estimate(t.now().Sub(t.first), done, all)
}

// estimate says how long the rest may take if it goes on as it did. Too little
// says nothing.
func estimate(elapsed time.Duration, done, all int64) string {
	if elapsed < 10*time.Second || done*50 < all {
		return "no estimate yet"
	}
	left := time.Duration(float64(elapsed) / float64(done) * float64(all-done))
	if left < time.Minute {
		return "less than a minute left"
	}
	return fmt.Sprintf("about %d min left", int(left.Round(time.Minute).Minutes()))
}
