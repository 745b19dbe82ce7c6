package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/FerretDB/wire"
	"github.com/FerretDB/wire/wirebson"
)

const backendSeconds = 10 * time.Second

// session is one client's connection, and its own to FerretDB as the role of its identity.
type session struct {
	guard    *guard
	identity string
	client   net.Conn
	reader   *bufio.Reader
	own      *backend // as the identity
	owner    *backend // as who owns collections; only for indexes, made when it is needed
}

func (s *session) close() {
	for _, one := range []*backend{s.own, s.owner} {
		if one != nil {
			one.Close()
		}
	}
}

// run passes one message at a time to FerretDB, and its answer back, until either end is closed.
func (s *session) run(ctx context.Context) (err error) {
	if s.own, err = logIn(ctx, s.guard.ferretdb(), s.identity); err != nil {
		return err
	}
	for {
		m, err := readMessage(s.reader)
		if err != nil {
			return err
		}
		answer, err := s.answer(ctx, m)
		if err != nil {
			return err
		}
		if m.silent {
			continue
		}
		if _, err := s.client.Write(answer); err != nil {
			return err
		}
	}
}

// answer is FerretDB's, or a refusal of ours.
func (s *session) answer(ctx context.Context, m *message) ([]byte, error) {
	to, refusal, err := s.route(ctx, m)
	if err != nil {
		return nil, err
	}
	if refusal != "" {
		return m.refusal(refusal)
	}
	if _, err := to.Write(m.raw); err != nil {
		return nil, err
	}
	return readRaw(to.reader)
}

// route says which connection a message may take, or why none.
func (s *session) route(ctx context.Context, m *message) (*backend, string, error) {
	// PostgreSQL says it again of changes, but only once there is something to change.
	if m.action != "" && !s.guard.may(s.identity, m.action, m.database, m.collection) {
		return nil, fmt.Sprintf("not authorized on %s to execute command %s on %s",
			m.database, m.command, m.collection), nil
	}
	switch {
	case slices.Contains(commands, m.command):
		return s.own, "", nil
	case slices.Contains(indexCommands, m.command) && len(m.sequences) == 0:
		if s.owner == nil {
			var err error
			if s.owner, err = logIn(ctx, s.guard.ferretdb(), s.guard.Owner); err != nil {
				return nil, "", err
			}
		}
		return s.owner, "", nil
	}
	return nil, fmt.Sprintf("not authorized on %s to execute command %s", m.database, m.command), nil
}

// backend is a connection to FerretDB, logged in.
type backend struct {
	net.Conn
	reader *bufio.Reader
}

// logIn needs no secret: PostgreSQL trusts whoever reaches its socket, and only we do.
func logIn(ctx context.Context, socket, role string) (*backend, error) {
	made, err := (&net.Dialer{Timeout: backendSeconds}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	b := &backend{made, bufio.NewReader(made)}
	_ = made.SetDeadline(time.Now().Add(backendSeconds))
	payload := wirebson.Binary{B: []byte("\x00" + role + "\x00-")}
	if err := b.command("saslStart", int32(1), "mechanism", "PLAIN", "payload", payload,
		"$db", "$external"); err != nil {
		made.Close()
		return nil, err
	}
	_ = made.SetDeadline(time.Time{})
	return b, nil
}

// command is one of ours; it must be done.
func (b *backend) command(pairs ...any) error {
	raw, err := encoded(1, 0, pairs...)
	if err != nil {
		return err
	}
	if _, err := b.Write(raw); err != nil {
		return err
	}
	_, body, err := wire.ReadMessage(b.reader)
	if err != nil {
		return err
	}
	said, ok := body.(*wire.OpMsg)
	if !ok {
		return errors.New("FerretDB answers with no message")
	}
	raw0, err := said.RawDocument()
	if err != nil {
		return err
	}
	document, err := raw0.Decode()
	if err != nil {
		return err
	}
	if document.Get("ok") != float64(1) {
		return fmt.Errorf("%v: %v", pairs[0], document.Get("errmsg"))
	}
	return nil
}
