package main

import (
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
)

// routes is the table of what is answered by whom. A pattern says what a regular expression would say in other servers:
// {id} stands for one element of the path, {words...} for all that are left, {$} for the end. If several match the most
// specific one counts, wherever it stands; two of which none is more specific are an error at the start. What no pattern has
// is answered with 404, and a method that a path does not have with 405.
func (s *site) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, handle := range map[string]func(http.ResponseWriter, *http.Request) error{
		"GET /{$}":              s.who,
		"GET /notes":            s.list,
		"POST /notes":           s.add,
		"GET /notes/{id}":       s.show,
		"DELETE /notes/{id}":    s.remove,
		"GET /find/{words...}":  s.find,
		"GET /notes/{id}/words": s.words,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := handle(w, r); err != nil {
				fail(w, r, err)
			}
		})
	}
	return mux
}

// fail answers a request with what went wrong.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	var big *http.MaxBytesError
	switch {
	case errors.Is(err, sql.ErrNoRows):
		http.NotFound(w, r)
	case errors.As(err, &big):
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
	default:
		fmt.Fprintf(os.Stderr, "%s %s: %v\n", r.Method, r.URL.Path, err)
		http.Error(w, "something is wrong here", http.StatusInternalServerError)
	}
}

func (s *site) who(w http.ResponseWriter, _ *http.Request) error {
	_, err := fmt.Fprintf(w, "pid=%d slot=%d generation=%d\n", os.Getpid(), s.child.Slot(), s.child.Generation())
	return err
}

func (s *site) list(w http.ResponseWriter, r *http.Request) error {
	return s.find(w, r) // without words: all of them
}

// find finds "the milk" for /find/the/milk.
func (s *site) find(w http.ResponseWriter, r *http.Request) error {
	words := strings.ReplaceAll(r.PathValue("words"), "/", " ")
	return s.notes.find(r.Context(), words, func(id int64, text string) {
		first, _, _ := strings.Cut(text, "\n")
		fmt.Fprintf(w, "/notes/%d %s\n", id, first)
	})
}

func (s *site) add(w http.ResponseWriter, r *http.Request) error {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	if err != nil {
		return err
	}
	id, err := s.notes.add(r.Context(), string(text))
	if err != nil {
		return err
	}
	w.Header().Set("Location", fmt.Sprint("/notes/", id))
	w.WriteHeader(http.StatusCreated)
	_, err = fmt.Fprintf(w, "/notes/%d\n", id)
	return err
}

// note is the one that the path names. A pattern does not say that an id is a number: who needs that looks.
func (s *site) note(r *http.Request) (id int64, text string, err error) {
	if id, err = strconv.ParseInt(r.PathValue("id"), 10, 64); err != nil {
		return 0, "", sql.ErrNoRows
	}
	text, err = s.notes.get(r.Context(), id)
	return id, text, err
}

func (s *site) show(w http.ResponseWriter, r *http.Request) error {
	_, text, err := s.note(r)
	if err == nil {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, err = io.WriteString(w, text)
	}
	return err
}

func (s *site) words(w http.ResponseWriter, r *http.Request) error {
	_, text, err := s.note(r)
	if err == nil {
		_, err = fmt.Fprintln(w, len(strings.Fields(text)))
	}
	return err
}

func (s *site) remove(w http.ResponseWriter, r *http.Request) error {
	id, _, err := s.note(r)
	if err == nil {
		err = s.notes.remove(r.Context(), id)
	}
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}
