package main

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"net/url"
	"os"
	"syscall"

	_ "modernc.org/sqlite" // the driver: SQLite in Go, without cgo
)

// A notes is a child's handle on the database. Others have theirs: SQLite keeps them apart, and in its WAL mode nobody who
// reads waits for one who writes. What has been answered with 201 is in the file, whoever is killed then.
type notes struct {
	db   *sql.DB
	path string
}

// openNotes makes what is not there yet.
func openNotes(path string) (*notes, error) {
	file := url.URL{Scheme: "file", Path: path, RawQuery: url.Values{
		"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)"},
		"_txlock": {"immediate"},
	}.Encode()}
	db, err := sql.Open("sqlite", file.String())
	if err != nil {
		return nil, err
	}
	// One connection for each child: the requests of one child take turns.
	db.SetMaxOpenConns(1)
	n := &notes{db, path}
	if err := n.alone(func() error {
		_, err := db.Exec("CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL)")
		return err
	}); err != nil {
		db.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	fmt.Println("the database is open")
	return n, nil
}

func (n *notes) close() {
	if err := n.alone(n.db.Close); err != nil {
		log.Println("the database does not close:", err)
		return
	}
	fmt.Println("the database is closed")
}

// alone calls f while no other child opens or closes the database. There SQLite does not wait, whatever its busy_timeout: of
// children who come at the same time and find that there is none all but one would fail.
func (n *notes) alone(f func() error) error {
	lock, err := os.OpenFile(n.path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close() // which unlocks, as the death of this process does
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return os.NewSyscallError("flock", err)
	}
	return f()
}

func (n *notes) add(ctx context.Context, text string) (id int64, err error) {
	res, err := n.db.ExecContext(ctx, "INSERT INTO notes (text) VALUES (?)", text)
	if err != nil {
		return 0, err
	}
	return res.LastInsertId()
}

// get returns sql.ErrNoRows if there is none.
func (n *notes) get(ctx context.Context, id int64) (text string, err error) {
	err = n.db.QueryRowContext(ctx, "SELECT text FROM notes WHERE id = ?", id).Scan(&text)
	return text, err
}

func (n *notes) remove(ctx context.Context, id int64) error {
	_, err := n.db.ExecContext(ctx, "DELETE FROM notes WHERE id = ?", id)
	return err
}

// find calls f with each note that has the words.
func (n *notes) find(ctx context.Context, words string, f func(id int64, text string)) error {
	rows, err := n.db.QueryContext(ctx, "SELECT id, text FROM notes WHERE instr(text, ?) ORDER BY id", words)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		var text string
		if err := rows.Scan(&id, &text); err != nil {
			return err
		}
		f(id, text)
	}
	return rows.Err()
}
