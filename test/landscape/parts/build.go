// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package parts

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"

	"github.com/larder-project/larder/test/landscape/progress"
)

// CacheVariable is the environment variable that moves the cache away from its
// place below the user's cache folder.
const CacheVariable = "LARDER_PARTS_CACHE"

// Builder builds programs into a cache.
type Builder struct {
	// Repository is the root of this repository.
	Repository string
	// Cache is the folder of the cache, see DefaultCache.
	Cache string
	// Log tells what is being built.
	Log *progress.Log
}

// DefaultCache returns the folder that all checkouts of this user share.
func DefaultCache() (string, error) {
	if dir := os.Getenv(CacheVariable); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a folder for the parts, or set %s: %w", CacheVariable, err)
	}
	return filepath.Join(dir, "larder", "parts"), nil
}

// Build makes sure that the named programs are built and returns their paths.
func (b *Builder) Build(ctx context.Context, names ...string) (map[string]string, error) {
	paths := map[string]string{}
	for _, family := range catalog {
		var wanted []program
		for _, program := range family.programs {
			if slices.Contains(names, program.name) {
				wanted = append(wanted, program)
			}
		}
		if len(wanted) == 0 {
			continue
		}
		dir, err := b.build(ctx, family, wanted)
		if err != nil {
			return nil, fmt.Errorf("build the parts of %s: %w", family.name, err)
		}
		for _, program := range wanted {
			paths[program.name] = filepath.Join(dir, program.name)
		}
	}
	for _, name := range names {
		if _, ok := paths[name]; !ok {
			return nil, fmt.Errorf("there is no part called %q", name)
		}
	}
	return paths, nil
}

// build returns the folder that holds the wanted programs of the family.
func (b *Builder) build(ctx context.Context, family family, wanted []program) (string, error) {
	source := filepath.Join(b.Repository, "test", "landscape", "parts", family.name)
	flags, err := linkerFlags(source, family)
	if err != nil {
		return "", err
	}
	key, err := cacheKey(source, flags)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(b.Cache, family.name+"-"+key)
	missing, err := absent(dir, wanted)
	if err != nil || len(missing) == 0 {
		return dir, err
	}

	if err := os.MkdirAll(dir, 0o755); err != nil { // #nosec G301 -- programs for anybody.
		return "", err
	}
	unlock, err := lock(ctx, filepath.Join(dir, ".lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	// Another process may have built them while this one waited.
	missing, err = absent(dir, wanted)
	if err != nil || len(missing) == 0 {
		return dir, err
	}

	done := b.Log.Start(fmt.Sprintf("Build %s from %s", names(missing), family.module))
	return dir, done(compile(ctx, source, dir, flags, missing))
}

// compile builds into a folder aside and moves what is complete.
func compile(ctx context.Context, source, dir, flags string, programs []program) error {
	aside, err := os.MkdirTemp(dir, ".build-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(aside) }()

	args := []string{"build", "-trimpath", "-ldflags", flags, "-o", aside + string(filepath.Separator)}
	for _, program := range programs {
		args = append(args, program.path)
	}
	var output bytes.Buffer
	command := exec.CommandContext(ctx, "go", args...) // #nosec G204 -- the arguments come from the catalog.
	command.Dir = source
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-buildvcs=false")
	command.Stdout, command.Stderr = &output, &output
	if err := command.Run(); err != nil {
		return fmt.Errorf("go build in %s: %w\n%s", source, err, output.String())
	}
	for _, program := range programs {
		if err := os.Rename(filepath.Join(aside, program.file()), filepath.Join(dir, program.name)); err != nil {
			return err
		}
	}
	return nil
}

// linkerFlags makes a program report the version that its module pins.
func linkerFlags(source string, family family) (string, error) {
	path := filepath.Join(source, "go.mod")
	content, err := os.ReadFile(path) // #nosec G304 -- a file of this repository.
	if err != nil {
		return "", err
	}
	file, err := modfile.ParseLax(path, content, nil)
	if err != nil {
		return "", err
	}
	for _, require := range file.Require {
		if require.Mod.Path != family.module {
			continue
		}
		numbers := strings.SplitN(strings.TrimPrefix(require.Mod.Version, "v"), ".", 3)
		if len(numbers) != 3 {
			return "", fmt.Errorf("%s requires %s, which is not a version", path, require.Mod)
		}
		const variables = "k8s.io/component-base/version"
		return fmt.Sprintf("-s -w -X %[1]s.gitVersion=%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s",
			variables, require.Mod.Version, numbers[0], numbers[1]), nil
	}
	return "", fmt.Errorf("%s does not require %s", path, family.module)
}

// cacheKey changes with everything that the built programs depend on.
func cacheKey(source, flags string) (string, error) {
	toolchain := exec.Command("go", "env", "GOVERSION", "GOOS", "GOARCH")
	toolchain.Dir = source
	version, err := toolchain.Output()
	if err != nil {
		return "", fmt.Errorf("ask for the version of Go: %w", err)
	}
	hash := sha256.New()
	_, _ = fmt.Fprintf(hash, "%s\n%s\n", version, flags)
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join(source, name)) // #nosec G304 -- files of this repository.
		if err != nil {
			return "", err
		}
		_, _ = fmt.Fprintf(hash, "%s %d\n%s", name, len(content), content)
	}
	return hex.EncodeToString(hash.Sum(nil))[:12], nil
}

func absent(dir string, programs []program) ([]program, error) {
	var missing []program
	for _, program := range programs {
		_, err := os.Stat(filepath.Join(dir, program.name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, program)
		case err != nil:
			return nil, err
		}
	}
	return missing, nil
}

func names(programs []program) string {
	names := make([]string, 0, len(programs))
	for _, program := range programs {
		names = append(names, program.name)
	}
	return strings.Join(names, ", ")
}
