package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/term"
	"golang.org/x/text/encoding/unicode"
)

// maxLine bounds what is read as a password or token.
const maxLine = 4 << 10

// errNoTerminal says that there is nobody to ask.
var errNoTerminal = errors.New("there is no terminal to ask for the password on: use --password-stdin")

// readLine reads the first line of standard input, without its line break.
func (p *process) readLine(what string) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(p.stdin, maxLine+1)).ReadString('\n')
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return "", fmt.Errorf("read the %s from standard input: %w", what, err)
	case len(line) > maxLine:
		return "", fmt.Errorf("the %s on standard input is too long", what)
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return "", fmt.Errorf("there is no %s on standard input", what)
	}
	return line, nil
}

// readAll reads standard input to its end.
func (p *process) readAll(what string) (string, error) {
	content, err := io.ReadAll(io.LimitReader(p.stdin, maxLine+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("read the %s from standard input: %w", what, err)
	case len(content) > maxLine:
		return "", fmt.Errorf("the %s on standard input is too long", what)
	case len(content) == 0:
		return "", fmt.Errorf("there is no %s on standard input", what)
	}
	return string(content), nil
}

// plainToken returns the token in a text that somebody kept it in. What editors,
// shells and headers put around it is taken off: white space, a byte order mark,
// quotes, and the word Bearer. Whatever else is wrong is named.
func plainToken(text string) (string, error) {
	if strings.HasPrefix(text, "\xff\xfe") || strings.HasPrefix(text, "\xfe\xff") || strings.ContainsRune(text, 0) {
		decoded, err := unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewDecoder().String(text)
		if err != nil {
			return "", usagef("the token is in UTF-16 and cannot be read: save it as UTF-8")
		}
		text = decoded
	}
	text = strings.TrimSpace(strings.TrimPrefix(text, "\ufeff"))
	if n := len(text); n > 1 && (text[0] == '"' || text[0] == '\'') && text[n-1] == text[0] {
		text = strings.TrimSpace(text[1 : n-1])
	}
	if scheme, rest, ok := strings.Cut(text, " "); ok && strings.EqualFold(scheme, "Bearer") {
		text = strings.TrimSpace(rest)
	}
	switch {
	case !strings.ContainsAny(text, " \t\r\n"):
		return text, nil
	case strings.ContainsAny(text, "\r\n"):
		return "", usagef("there are several lines where the token should be: give one")
	}
	return "", usagef("there are several words where the token should be: give the token alone")
}

// ask asks for a line on the terminal and shows it as it is typed.
func (p *process) ask(ctx context.Context, question string) (string, error) {
	return p.onTerminal(ctx, question, func(int) (string, error) {
		line, err := bufio.NewReader(io.LimitReader(p.stdin, maxLine)).ReadString('\n')
		if err != nil {
			return "", err
		}
		return strings.TrimSpace(line), nil
	})
}

// askPassword asks for a password on the terminal without showing it.
func (p *process) askPassword(ctx context.Context, question string) (string, error) {
	return p.onTerminal(ctx, question, func(fd int) (string, error) {
		password, err := term.ReadPassword(fd)
		_, _ = fmt.Fprintln(p.stderr) // the line break that was not shown
		return string(password), err
	})
}

// onTerminal reads from the terminal. An interrupt ends the wait and leaves the
// terminal as it was.
func (p *process) onTerminal(ctx context.Context, question string, read func(fd int) (string, error)) (string, error) {
	f := terminal(p.stdin)
	if f == nil {
		return "", errNoTerminal
	}
	fd := int(f.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("use the terminal: %w", err)
	}
	if _, err := fmt.Fprint(p.stderr, question); err != nil {
		return "", err
	}
	type answer struct {
		text string
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		text, err := read(fd)
		answered <- answer{text, err}
	}()
	select {
	case <-ctx.Done(): // the process ends, and the reading goroutine with it
		_ = term.Restore(fd, before)
		_, _ = fmt.Fprintln(p.stderr)
		return "", ctx.Err()
	case a := <-answered:
		if errors.Is(a.err, io.EOF) {
			return "", errors.New("nothing was entered")
		}
		return a.text, a.err
	}
}

// password gets a password that somebody knows: from standard input, or asked for.
func (p *process) password(ctx context.Context, fromStdin bool) (string, error) {
	if fromStdin {
		return p.readLine("password")
	}
	return p.askPassword(ctx, "Password: ")
}

// newPassword gets a password that somebody chooses now: from standard input, or
// asked for twice.
func (p *process) newPassword(ctx context.Context, fromStdin bool) (string, error) {
	if fromStdin {
		return p.readLine("password")
	}
	first, err := p.askPassword(ctx, "New password: ")
	if err != nil {
		return "", err
	}
	second, err := p.askPassword(ctx, "The same again: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", errors.New("the two passwords differ")
	}
	return first, nil
}
