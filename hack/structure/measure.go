// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
)

// measure parses all Go files below a directory, except generated ones and those that the go command ignores.
func measure(directory string, tests bool) (*structure, error) {
	s := &structure{}
	methods := map[string]int{}
	err := filepath.WalkDir(directory, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && file != directory && ignored(entry.Name()) {
			return filepath.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(file, ".go") || !tests && strings.HasSuffix(file, "_test.go") {
			return nil
		}
		positions := token.NewFileSet()
		parsed, err := parser.ParseFile(positions, file, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("parse %s: %w", file, err)
		}
		if ast.IsGenerated(parsed) {
			return nil
		}
		relative, err := filepath.Rel(directory, file)
		if err != nil {
			return err
		}
		s.file(positions, parsed, filepath.ToSlash(relative), methods)
		return nil
	})
	for name, n := range methods {
		s.methods = append(s.methods, size{name: name, n: n})
	}
	return s, err
}

func ignored(directory string) bool {
	return directory == "vendor" || directory == "testdata" || strings.HasPrefix(directory, ".") || strings.HasPrefix(directory, "_")
}

// file measures a file and counts its methods by type.
func (s *structure) file(positions *token.FileSet, file *ast.File, name string, methods map[string]int) {
	s.files = append(s.files, size{name: name, n: positions.File(file.FileStart).LineCount()})
	// The external test package of a directory has types of its own.
	directory := path.Dir(name)
	if strings.HasSuffix(file.Name.Name, "_test") {
		directory += "_test"
	}
	for _, declaration := range file.Decls {
		switch d := declaration.(type) {
		case *ast.FuncDecl:
			lines := positions.Position(d.End()).Line - positions.Position(d.Pos()).Line + 1
			function := d.Name.Name
			if d.Recv != nil {
				receiver := receiverName(d.Recv.List[0].Type)
				function = receiver + "." + function
				methods[directory+" "+receiver]++
			}
			s.functions = append(s.functions, size{name: directory + " " + function, n: lines})
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				if t, ok := spec.(*ast.TypeSpec); ok {
					s.typeSpec(t, directory, methods)
				}
			}
		}
	}
}

// typeSpec measures a struct or an interface.
func (s *structure) typeSpec(spec *ast.TypeSpec, directory string, methods map[string]int) {
	name := directory + " " + spec.Name.Name
	switch t := spec.Type.(type) {
	case *ast.StructType:
		s.fields = append(s.fields, size{name: name, n: count(t.Fields)})
	case *ast.InterfaceType:
		methods[name] += count(t.Methods)
	}
}

// count counts fields or methods. An embedded type counts as one.
func count(list *ast.FieldList) int {
	n := 0
	for _, field := range list.List {
		n += max(1, len(field.Names))
	}
	return n
}

// receiverName returns the name of the receiver's type, without its pointer and type parameters.
func receiverName(expression ast.Expr) string {
	switch e := expression.(type) {
	case *ast.StarExpr:
		return receiverName(e.X)
	case *ast.ParenExpr:
		return receiverName(e.X)
	case *ast.IndexExpr:
		return receiverName(e.X)
	case *ast.IndexListExpr:
		return receiverName(e.X)
	case *ast.Ident:
		return e.Name
	default:
		return "?"
	}
}
