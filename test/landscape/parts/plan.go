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

// plan is the work of a target.
type plan struct {
	// packages has a key for each package by its import path. Packages of different versions are different work.
	packages map[string]string
	// weights are the costs of compiling the packages, by key, in bytes of source.
	weights map[string]int64
}

// packageWeight is the cost of a package without its source: a compiler starts and reads the imports.
const packageWeight = 30_000

// linkWeight is the cost of linking relative to compiling the same source.
const linkWeight = 0.02

// listed is go list's description of a package.
type listed struct {
	ImportPath string
	Dir        string
	Name       string
	GoFiles    []string
	Stale      bool
	Module     *struct{ Version string }
}

// plan determines the packages that the go command would compile. It downloads missing modules.
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
		return nil, fmt.Errorf("list packages of %s: %w", t, err)
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
			return nil, fmt.Errorf("read output of go list: %w", err)
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
	// The cost of linking grows with the size of everything linked.
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

// tally counts work and shows the progress. It is safe for concurrent use.
type tally struct {
	step *progress.Step
	now  func() time.Time

	mu sync.Mutex
	// weights are those of all packages in the plans, compiled or not.
	weights map[string]int64
	done    map[string]bool
	// known means that all plans are complete.
	known      bool
	downloaded int
	first      time.Time
}

func newTally(step *progress.Step) *tally {
	step.Update("planning")
	return &tally{step: step, now: time.Now, weights: map[string]int64{}, done: map[string]bool{}}
}

// downloading counts a module.
func (t *tally) downloading(module string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.downloaded++
	// Compiled packages take precedence.
	if t.first.IsZero() {
		t.step.Update("downloading module %d: %s", t.downloaded, module)
	}
}

// waiting shows that another process runs the same build.
func (t *tally) waiting(dir string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.step.Update("waiting for another build into %s", dir)
}

// add adds a plan.
func (t *tally) add(p *plan) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, weight := range p.weights {
		t.weights[key] = weight
	}
}

// complete marks the plans as complete.
func (t *tally) complete() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known = true
}

// started reports whether a line of the go command names a package of the plan, whose compilation has started.
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

// summary returns the progress and the estimate.
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

// estimate returns the remaining time at the current pace. It is empty at the beginning.
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
