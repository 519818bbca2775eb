// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package parts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/modfile"
)

// environment is shared by all builds of this repository, so that no package is compiled twice because of different
// flags. The compiler spends a quarter of its time on collecting garbage that its exit would free; GOGC saves most of
// that.
var environment = []string{"CGO_ENABLED=0", "GOFLAGS=-trimpath", "GOWORK=off", "GOGC=400"}

// file is the file name of the program in go build.
func (p program) file() string { return path.Base(p.pkg) }

// String returns the name of the target for errors.
func (t *target) String() string {
	if t.module.name == "" {
		return "this repository's programs"
	}
	return "the programs in " + filepath.Join("test", "landscape", "parts", t.module.name)
}

// buildFlags returns the flags of go build and go list. They cover all programs of the module, regardless of the
// selection.
func (t *target) buildFlags() ([]string, error) {
	var flags []string
	if len(t.module.tags) > 0 {
		flags = append(flags, "-tags="+strings.Join(t.module.tags, ","))
	}
	for _, program := range t.module.programs {
		variables, err := t.versionFlags(program)
		if err != nil {
			return nil, err
		}
		flags = append(flags, fmt.Sprintf("-ldflags=%s=-s -w %s", program.pkg, variables))
	}
	return flags, nil
}

// versionFlags makes a program report its version.
func (t *target) versionFlags(program program) (string, error) {
	const variables = "k8s.io/component-base/version"
	if t.module.name == "" {
		version, err := os.ReadFile(filepath.Join(t.source, "VERSION")) // #nosec G304 -- a file of this repository.
		return fmt.Sprintf("-X %s.gitVersion=%s", variables, strings.TrimSpace(string(version))), err
	}
	if program.version == "" {
		return "", nil
	}
	version, err := ModuleVersion(t.source, program.version)
	if err != nil {
		return "", err
	}
	numbers := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(numbers) != 3 {
		return "", fmt.Errorf("%s has the invalid version %s", program.version, version)
	}
	return fmt.Sprintf("-X %[1]s.gitVersion=%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s",
		variables, version, numbers[0], numbers[1]), nil
}

// ModuleVersion returns the version of a module that the go.mod in a directory requires.
func ModuleVersion(dir, module string) (string, error) {
	path := filepath.Join(dir, "go.mod")
	content, err := os.ReadFile(path) // #nosec G304 -- a file of this repository.
	if err != nil {
		return "", err
	}
	file, err := modfile.ParseLax(path, content, nil)
	if err != nil {
		return "", err
	}
	for _, require := range file.Require {
		if require.Mod.Path == module {
			return require.Mod.Version, nil
		}
	}
	return "", fmt.Errorf("%s does not require %s", path, module)
}

// cacheKey depends on all inputs of the programs.
func cacheKey(source string, flags []string) (string, error) {
	toolchain := exec.Command("go", "env", "GOVERSION", "GOOS", "GOARCH")
	toolchain.Dir = source
	version, err := toolchain.Output()
	if err != nil {
		return "", fmt.Errorf("read the version of Go: %w", err)
	}
	hash := sha256.New()
	_, _ = fmt.Fprintf(hash, "%s\n%q\n", version, flags)
	err = filepath.WalkDir(source, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path) // #nosec G122 G304 -- a file of this repository.
		if err == nil {
			_, err = fmt.Fprintf(hash, "%s %d\n%s", entry.Name(), len(content), content)
		}
		return err
	})
	return hex.EncodeToString(hash.Sum(nil))[:12], err
}

// goCommand runs the go command. Each line of its standard error goes to the log and to the function, which reports
// whether it is progress; all other lines are part of the error.
func (t *target) goCommand(ctx context.Context, stdout, log io.Writer, isProgress func(line string) bool, args ...string) error {
	_, _ = fmt.Fprintf(log, "$ cd %s && %s go %s\n", t.source, strings.Join(environment, " "), strings.Join(args, " "))
	var complaints tail
	stderr := lineWriter(func(line string) {
		_, _ = fmt.Fprintln(log, line)
		if !isProgress(line) {
			complaints.add(line)
		}
	})
	command := exec.CommandContext(ctx, "go", args...) // #nosec G204 -- the arguments come from the catalog.
	command.Dir = t.source
	command.Env = append(os.Environ(), environment...)
	command.Stdout, command.Stderr = stdout, &stderr
	// An interrupted go command removes partial results.
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 10 * time.Second
	err := command.Run()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return &BuildError{Err: err, Output: complaints.String()}
	}
	return nil
}
