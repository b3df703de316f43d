package models

import (
	"bufio"
	"bytes"
	"compress/gzip"
	_ "embed"
	"strings"
)

// commonPasswords are the 43,000 passwords of at least 12 characters among the million that
// people use most, in lower case and sorted: OWASP SecLists,
// Passwords/Common-Credentials/10-million-password-list-top-1000000.txt (MIT licence).
//
//go:embed common-passwords.txt.gz
var commonPasswords []byte

// isCommonPassword reports whether a password is one that is tried first, in any case of
// its letters from A to Z. New passwords are rare, so the list is read anew rather than
// kept in memory.
func isCommonPassword(password string) bool {
	password = strings.Map(lowerASCII, password)
	list, err := gzip.NewReader(bytes.NewReader(commonPasswords))
	if err != nil {
		panic(err) // it is part of the program
	}
	lines := bufio.NewScanner(list)
	for lines.Scan() {
		if line := lines.Text(); line >= password {
			return line == password
		}
	}
	if err := lines.Err(); err != nil {
		panic(err)
	}
	return false
}

func lowerASCII(r rune) rune {
	if 'A' <= r && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return r
}
