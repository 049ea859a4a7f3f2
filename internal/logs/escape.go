package logs

import "unicode/utf8"

// Escape makes a line safe to show and to log.
//
// It turns control characters (C0 but the tab, DEL, and C1, U+0080 to U+009F), bytes that are not UTF-8, the controls of
// writing direction (U+061C, U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069) and the separators U+2028 and U+2029 into
// \xNN or \uNNNN. So a line can neither move the cursor, nor look like two lines, nor read otherwise than it runs ("Trojan
// Source", CVE-2021-42574). Tabs and everything printable, in any script, stay, and so does a backslash: the result is for
// people and is not meant to be read back. It returns s itself, without allocating, if there is nothing to escape.
func Escape(s string) string {
	i := 0
	for i < len(s) {
		r, size := rune(s[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(s[i:])
		}
		if unsafeRune(r, size) {
			return string(AppendEscape(append(make([]byte, 0, len(s)+16), s[:i]...), []byte(s[i:])))
		}
		i += size
	}
	return s
}

// AppendEscape appends b to dst, escaped as [Escape] does, and returns the longer slice.
func AppendEscape(dst, b []byte) []byte {
	done := 0 // b[:done] is in dst
	for i := 0; i < len(b); {
		r, size := rune(b[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRune(b[i:])
		}
		if unsafeRune(r, size) {
			dst = append(dst, b[done:i]...)
			if size == 1 {
				dst = append(dst, '\\', 'x', hex[b[i]>>4], hex[b[i]&15])
			} else { // all of them are below U+10000
				dst = append(dst, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
			}
			done = i + size
		}
		i += size
	}
	return append(dst, b[done:]...)
}

// EscapeJSON makes a line of JSON, which may end in a newline, safe to show: what [Escape] would escape and JSON allows in a string
// becomes \uNNNN, which means the same there. It returns line itself if there is nothing to escape.
func EscapeJSON(line []byte) []byte {
	var out []byte
	done := 0 // line[:done] is in out
	for i := 0; i < len(line); {
		r, size := rune(line[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRune(line[i:])
		}
		if r >= 0x7f && unsafeRune(r, size) {
			out = append(out, line[done:i]...)
			out = append(out, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
			done = i + size
		}
		i += size
	}
	if out == nil {
		return line
	}
	return append(out, line[done:]...)
}

const hex = "0123456789abcdef"

// unsafeRune judges a rune as utf8.DecodeRune returns it: a bad byte is RuneError of size 1.
func unsafeRune(r rune, size int) bool {
	switch {
	case r < 0x20:
		return r != '\t'
	case r < 0x7f:
		return false
	case r <= 0x9f: // DEL and C1
		return true
	case r == utf8.RuneError:
		return size == 1
	case r < 0x61c:
		return false
	}
	switch r {
	case 0x61c, 0x200e, 0x200f, 0x2028, 0x2029, 0x202a, 0x202b, 0x202c, 0x202d, 0x202e, 0x2066, 0x2067, 0x2068, 0x2069:
		return true
	}
	return false
}
