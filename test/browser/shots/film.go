package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/png"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/brooddaemon/brood/test/browser"
)

const (
	frame    = 100 * time.Millisecond
	patience = 4 * time.Second // for what has not changed
	shades   = 64              // with the one that is none
)

// pace takes out of a recording what nobody wants to wait for.
func pace(tape []browser.Output) []browser.Output {
	paced := slices.Clone(tape)
	var out time.Duration
	for i := 1; i < len(tape); i++ {
		out += max(0, tape[i].At-tape[i-1].At-patience)
		paced[i].At -= out
	}
	return paced
}

// writeCast writes a recording as asciicast v2, a line of JSON for each output.
func writeCast(path string, tape []browser.Output) error {
	var b bytes.Buffer
	lines := json.NewEncoder(&b)
	lines.SetEscapeHTML(false)
	lines.Encode(struct {
		Version int    `json:"version"`
		Width   int    `json:"width"`
		Height  int    `json:"height"`
		Title   string `json:"title"`
	}{2, columns, rows, "Brood: see it work"})
	for _, o := range tape {
		lines.Encode([]any{float64(o.At.Milliseconds()) / 1000, "o", o.Text})
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

// writeGIF shows a recording to the browser, and writes what it looks like.
func writeGIF(path string, p *browser.Page, tape []browser.Output) error {
	g, err := film(p, tape)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := gif.EncodeAll(&b, g); err != nil {
		return err
	}
	fmt.Println(path, len(g.Image), "frames,", b.Len(), "bytes")
	return os.WriteFile(path, b.Bytes(), 0o644)
}

// film makes an animation.
func film(p *browser.Page, tape []browser.Output) (*gif.GIF, error) {
	screen := browser.NewScreen(columns, rows, io.Discard)
	var pictures []image.Image
	var delays []int // in hundredths of a second
	last := ""
	for at := time.Duration(0); len(tape) > 0; at += frame {
		for len(tape) > 0 && tape[0].At <= at {
			io.WriteString(screen, tape[0].Text)
			tape = tape[1:]
		}
		if now := screen.HTML(); now != last || len(pictures) == 0 {
			if err := p.Show(screen); err != nil {
				return nil, err
			}
			b, err := p.Picture()
			if err != nil {
				return nil, err
			}
			picture, err := png.Decode(bytes.NewReader(b))
			if err != nil {
				return nil, err
			}
			pictures, delays, last = append(pictures, picture), append(delays, 0), now
		}
		delays[len(delays)-1] += int(frame / (10 * time.Millisecond))
	}
	delays[len(delays)-1] = int(patience / (10 * time.Millisecond)) // before it begins anew
	return animate(pictures, delays), nil
}

// animate draws of each picture only what differs from the one before.
func animate(pictures []image.Image, delays []int) *gif.GIF {
	palette := colours(pictures)
	bounds := pictures[0].Bounds()
	g := &gif.GIF{Delay: delays, Config: image.Config{ColorModel: palette, Width: bounds.Dx(), Height: bounds.Dy()}}
	nearest := map[color.RGBA]uint8{}
	shown := image.NewPaletted(bounds, palette)
	for _, picture := range pictures {
		var changed image.Rectangle
		part := image.NewPaletted(bounds, palette) // all of it lets see what is below
		for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
			for x := bounds.Min.X; x < bounds.Max.X; x++ {
				c := color.RGBAModel.Convert(picture.At(x, y)).(color.RGBA)
				i, ok := nearest[c]
				if !ok {
					i = uint8(1 + palette[1:].Index(c))
					nearest[c] = i
				}
				if i != shown.ColorIndexAt(x, y) {
					shown.SetColorIndex(x, y, i)
					part.SetColorIndex(x, y, i)
					changed = changed.Union(image.Rect(x, y, x+1, y+1))
				}
			}
		}
		if changed.Empty() { // a picture has at least one point
			changed = image.Rect(0, 0, 1, 1)
		}
		g.Image = append(g.Image, part.SubImage(changed).(*image.Paletted))
		g.Disposal = append(g.Disposal, gif.DisposalNone)
	}
	return g
}

// colours returns those that are most frequent in the pictures, behind the one that is none.
func colours(pictures []image.Image) color.Palette {
	count := map[color.RGBA]int{}
	for _, picture := range pictures {
		for y := range picture.Bounds().Dy() {
			for x := range picture.Bounds().Dx() {
				count[color.RGBAModel.Convert(picture.At(x, y)).(color.RGBA)]++
			}
		}
	}
	all := slices.SortedFunc(maps.Keys(count), func(a, b color.RGBA) int { return count[b] - count[a] })
	palette := color.Palette{color.Transparent}
	for _, c := range all[:min(len(all), shades-1)] {
		palette = append(palette, c)
	}
	return palette
}
