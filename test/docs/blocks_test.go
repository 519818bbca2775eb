// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

const fence = "```"

// block is a code block of a document.
type block struct {
	// position is the document and the line at which the block begins.
	position string
	language string
	// text is the content without the indentation of the block.
	text string
}

// blocks returns the code blocks of a document, those in lists included.
func blocks(document string) []block {
	GinkgoHelper()
	content, err := os.ReadFile(filepath.Join(repository, document))
	Expect(err).NotTo(HaveOccurred())

	var found []block
	var text bytes.Buffer
	inside, indentation := false, ""
	for i, line := range strings.Split(string(content), "\n") {
		before, language, isFence := strings.Cut(line, fence)
		isFence = isFence && strings.TrimSpace(before) == ""
		switch {
		case isFence && !inside:
			inside, indentation = true, before
			found = append(found, block{position: fmt.Sprintf("%s:%d", document, i+1), language: language})
		case isFence:
			found[len(found)-1].text = text.String()
			inside = false
			text.Reset()
		case inside:
			text.WriteString(strings.TrimPrefix(line, indentation) + "\n")
		}
	}
	Expect(inside).To(BeFalse(), "%s has a code block without an end", document)
	return found
}
