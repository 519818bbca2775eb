// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// maxFileSize keeps the repository small.
const maxFileSize = 150_000

// screenshot is a picture of a page in a window.
type screenshot struct {
	file          string
	width, height int
	scale         float64
	dark          bool
}

// take takes the screenshot with Chromium.
func (s screenshot) take(ctx context.Context, url, path, work string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	raw := filepath.Join(work, s.file)
	arguments := []string{
		"--headless", "--disable-gpu", "--hide-scrollbars", "--disable-lcd-text", "--user-data-dir=" + filepath.Join(work, "profile"),
		fmt.Sprintf("--window-size=%d,%d", s.width, s.height), fmt.Sprintf("--force-device-scale-factor=%g", s.scale), "--screenshot=" + raw,
	}
	if s.dark {
		arguments = append(arguments, "--blink-settings=preferredColorScheme=0")
	}
	if os.Getuid() == 0 {
		arguments = append(arguments, "--no-sandbox") // Chromium refuses to run as root with one.
	}
	command := exec.CommandContext(ctx, "chromium", append(arguments, url)...)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("run chromium: %w\n%s", err, output)
	}
	return shrink(raw, path)
}

// shrink writes a picture with a palette.
func shrink(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	full, err := png.Decode(source)
	if err != nil {
		return err
	}
	small := image.NewPaletted(full.Bounds(), palette(full))
	draw.Draw(small, small.Bounds(), full, full.Bounds().Min, draw.Src)

	target, err := os.Create(to) //nolint:gosec // The user of this program names the file.
	if err != nil {
		return err
	}
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	if err := errors.Join(encoder.Encode(target, small), target.Close()); err != nil {
		return err
	}
	written, err := os.Stat(to) //nolint:gosec // The user of this program names the file.
	if err != nil {
		return err
	}
	if written.Size() > maxFileSize {
		return fmt.Errorf("%d bytes exceed the limit of %d", written.Size(), maxFileSize)
	}
	return nil
}

// palette returns at most 256 colors: of similar ones, most of which are shades at the edges of letters, the most frequent.
func palette(picture image.Image) color.Palette {
	counts := map[color.Color]int{}
	for y := picture.Bounds().Min.Y; y < picture.Bounds().Max.Y; y++ {
		for x := picture.Bounds().Min.X; x < picture.Bounds().Max.X; x++ {
			counts[picture.At(x, y)]++
		}
	}
	type group [3]uint32
	seen := map[group]bool{}
	var colors color.Palette
	for _, c := range slices.SortedFunc(maps.Keys(counts), func(a, b color.Color) int { return cmp.Compare(counts[b], counts[a]) }) {
		r, g, b, _ := c.RGBA()
		if similar := (group{r >> 11, g >> 11, b >> 11}); !seen[similar] && len(colors) < 256 {
			seen[similar] = true
			colors = append(colors, c)
		}
	}
	return colors
}
