package conffile

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxSize is how many bytes a file may have.
	MaxSize = 1 << 20
	// MaxLine is how many bytes a line may have, without its end.
	MaxLine = 64 << 10
	// maxKey is longer than any name of a setting.
	maxKey = 128
)

// An Entry is a line that sets something.
type Entry struct {
	Line  int    // its number, from 1
	Key   string // letters, digits, underscores, dots and dashes
	Value string // without quotes; it has no NUL
}

// An Error says what is wrong in which line of which file.
type Error struct {
	File string
	Line int // from 1; 0: it is about the whole file
	Text string
}

// Error returns FILE:LINE: TEXT, as editors know to read it.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Text
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Text)
}

// bom is a byte order mark, with which some editors begin a file.
const bom = "\xef\xbb\xbf"

// Parse returns the entries of a file in their order. file is its name, for errors, which are of type *Error. Lines may end as on
// Unix or on Windows. A text that is not UTF-8, or has control characters other than tabs, is no configuration file.
func Parse(file string, text []byte) ([]Entry, error) {
	if len(text) > MaxSize {
		return nil, &Error{file, 0, fmt.Sprintf("%d bytes, more than the %d that a configuration file may have", len(text), MaxSize)}
	}
	var all []Entry
	number := 0
	for line := range bytes.Lines(bytes.TrimPrefix(text, []byte(bom))) {
		number++
		line = bytes.TrimSuffix(line, []byte("\n"))
		e, err := parseLine(string(bytes.TrimSuffix(line, []byte("\r"))))
		if err != nil {
			return nil, &Error{file, number, err.Error()}
		}
		if e.Key != "" {
			e.Line = number
			all = append(all, e)
		}
	}
	return all, nil
}

// parseLine returns what a line says; without a key it says nothing.
func parseLine(line string) (e Entry, err error) {
	if len(line) > MaxLine {
		return e, fmt.Errorf("%d bytes, more than the %d that a line may have", len(line), MaxLine)
	}
	if !utf8.ValidString(line) {
		return e, fmt.Errorf("not UTF-8; in quotes every byte can be written, as in \"\\xff\"")
	}
	if i := strings.IndexFunc(line, func(r rune) bool { return r != '\t' && unicode.IsControl(r) }); i >= 0 {
		r, _ := utf8.DecodeRuneInString(line[i:])
		return e, fmt.Errorf("control character %U; in quotes it can be written, as in \"\\x1b\"", r)
	}
	line = strings.Trim(line, blanks)
	if line == "" || line[0] == '#' {
		return e, nil
	}
	key, rest := line, ""
	if i := strings.IndexAny(line, blanks); i >= 0 {
		key, rest = line[:i], strings.TrimLeft(line[i:], blanks)
	}
	if err := checkKey(key); err != nil {
		return e, err
	}
	e.Key = key
	switch {
	case rest == "", rest[0] == '#':
		err = fmt.Errorf("key %q: no value; \"\" is an empty one", key)
	case rest[0] == '"':
		e.Value, err = unquote(key, rest)
	case rest == "=", strings.HasPrefix(rest, "= "), strings.HasPrefix(rest, "=\t"):
		err = fmt.Errorf("key %q: between key and value stands a blank and no \"=\"", key)
	default:
		e.Value = bare(rest)
	}
	return e, err
}

// blanks separate words.
const blanks = " \t"

// checkKey reports a key that no setting can have.
func checkKey(key string) error {
	name, _, sign := strings.Cut(key, "=")
	strange := strings.IndexFunc(name, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("_.-", r))
	})
	switch {
	case len(key) > maxKey:
		return fmt.Errorf("key %q...: longer than the name of any setting", key[:16])
	case name == "" || strange >= 0 || name[0] == '-':
		return fmt.Errorf("%q is no key: want KEY VALUE, as in \"prefork 8\"", key)
	case sign:
		return fmt.Errorf("key %q: between key and value stands a blank and no \"=\"", name)
	}
	return nil
}

// unquote returns the value that begins with a quotation mark.
func unquote(key, rest string) (string, error) {
	quoted, err := strconv.QuotedPrefix(rest)
	if err != nil {
		return "", fmt.Errorf("key %q: a quotation mark is missing, or an escape is none of Go's", key)
	}
	if after := rest[len(quoted):]; after != "" && (!strings.ContainsAny(after[:1], blanks) || strings.TrimLeft(after, blanks)[0] != '#') {
		return "", fmt.Errorf("key %q: after the value in quotes stands %q", key, after)
	}
	value, err := strconv.Unquote(quoted)
	if err == nil && strings.Contains(value, "\x00") {
		err = fmt.Errorf("key %q: the value has a NUL", key)
	}
	return value, err
}

// bare returns a value without quotes: up to a comment.
func bare(rest string) string {
	for i := 1; i < len(rest); i++ {
		if rest[i] == '#' && strings.IndexByte(blanks, rest[i-1]) >= 0 {
			rest = rest[:i]
		}
	}
	return strings.TrimRight(rest, blanks)
}

// Quote returns a value as it is written in a file, so that Parse returns it: in quotes if it needs them.
func Quote(value string) string {
	plain := value != "" && utf8.ValidString(value) && strings.Trim(value, blanks) == value && value[0] != '"' && value[0] != '#' && value[0] != '=' &&
		!strings.Contains(value, " #") && !strings.Contains(value, "\t#") && !strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) })
	if plain {
		return value
	}
	return strconv.Quote(value)
}
