package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/FerretDB/wire"
	"github.com/FerretDB/wire/wirebson"
)

// What a message is made of (MongoDB wire protocol, "Standard Message Header" and on).
const (
	headerBytes = 16
	mostBytes   = 48_000_000 // maxMessageSizeBytes, as hello says
	opReply     = 1
	opQuery     = 2004
	opMsg       = 2013
	moreToCome  = 1 << 1 // the sender awaits no answer
	exhaustable = 1 << 16
)

// commands are what every identity may ask for, of those that FerretDB knows: PostgreSQL says of
// each whether the role may, on the collection that it names. Whatever is not here is refused, all
// that is about authentication first.
var commands = []string{
	"aggregate", "buildInfo", "buildinfo", "connectionStatus", "count", "delete", "distinct",
	"endSessions", "find", "findAndModify", "findandmodify", "getMore", "hello", "insert",
	"isMaster", "ismaster", "killCursors", "ping", "update",
}

// indexCommands need what only the owner of a table may do.
var indexCommands = []string{"createIndexes", "dropIndexes", "listIndexes"}

// greetings may be asked for by OP_QUERY, too.
var greetings = []string{"hello", "isMaster", "ismaster"}

// sequences of documents that commands have.
var sequences = []string{"deletes", "documents", "updates"}

// sizes is a stage of aggregate that tells of collections of others what nobody may read.
var sizes = []byte("$collStats\x00")

// message is one of a client's, as far as we must know it.
type message struct {
	raw        []byte
	id         int32
	query      bool // OP_QUERY
	silent     bool // no answer is awaited
	command    string
	collection string // what the command's own field names, where that is text
	database   string
	action     string // what must be granted for it, as declared; empty: PostgreSQL says it
	sequences  []string
}

// readRaw reads one whole message.
func readRaw(reader io.Reader) ([]byte, error) {
	header := make([]byte, headerBytes)
	if _, err := io.ReadFull(reader, header); err != nil {
		return nil, err
	}
	length := binary.LittleEndian.Uint32(header)
	if length < headerBytes || length > mostBytes {
		return nil, fmt.Errorf("a message of %d bytes", length)
	}
	raw := make([]byte, length)
	copy(raw, header)
	_, err := io.ReadFull(reader, raw[headerBytes:])
	return raw, err
}

// readMessage reads a client's message, and refuses what is not as every driver writes it.
func readMessage(reader io.Reader) (*message, error) {
	raw, err := readRaw(reader)
	if err != nil {
		return nil, err
	}
	m := &message{raw: raw, id: int32(binary.LittleEndian.Uint32(raw[4:]))}
	switch code := binary.LittleEndian.Uint32(raw[12:]); code {
	case opMsg:
		return m, m.readMsg(raw[headerBytes:])
	case opQuery:
		return m, m.readQuery(raw[headerBytes:])
	default:
		return nil, fmt.Errorf("operation %d", code)
	}
}

// readMsg: flags, one document first, then sequences with known names, and nothing else.
func (m *message) readMsg(body []byte) error {
	if len(body) < 5 {
		return errors.New("too short")
	}
	flags := binary.LittleEndian.Uint32(body)
	if flags&^(moreToCome|exhaustable) != 0 {
		return fmt.Errorf("flags %x", flags)
	}
	m.silent = flags&moreToCome != 0
	if body[4] != 0 {
		return errors.New("no document first")
	}
	rest := body[5:]
	length, err := wirebson.FindRaw(rest)
	if err != nil {
		return err
	}
	if err := m.readDocument(rest[:length]); err != nil {
		return err
	}
	for rest = rest[length:]; len(rest) > 0; {
		if len(rest) < 5 || rest[0] != 1 {
			return errors.New("a section of another kind")
		}
		size := binary.LittleEndian.Uint32(rest[1:])
		if size < 5 || uint64(size) > uint64(len(rest)-1) {
			return errors.New("a section that does not end")
		}
		title, _, found := bytes.Cut(rest[5:1+size], []byte{0})
		if !found || !slices.Contains(sequences, string(title)) || slices.Contains(m.sequences, string(title)) {
			return fmt.Errorf("a sequence %q", title)
		}
		m.sequences = append(m.sequences, string(title))
		rest = rest[1+size:]
	}
	return nil
}

// readQuery: a greeting of an old kind.
func (m *message) readQuery(body []byte) error {
	m.query = true
	if len(body) < 4 {
		return errors.New("too short")
	}
	title, rest, found := bytes.Cut(body[4:], []byte{0})
	if !found || !bytes.HasSuffix(title, []byte(".$cmd")) || len(rest) < 8 {
		return fmt.Errorf("a query of %q", title)
	}
	rest = rest[8:]
	length, err := wirebson.FindRaw(rest)
	if err != nil || length != len(rest) {
		return errors.New("no one document")
	}
	if err := m.readDocument(rest); err != nil {
		return err
	}
	if !slices.Contains(greetings, m.command) {
		return fmt.Errorf("%s by OP_QUERY", m.command)
	}
	return nil
}

// readDocument looks at the names of a command's own fields, at the first one's value, and no
// deeper.
func (m *message) readDocument(raw wirebson.RawDocument) error {
	document, err := raw.Decode()
	if err != nil {
		return err
	}
	names := document.FieldNames()
	if len(names) == 0 {
		return errors.New("no command")
	}
	m.command = names[0]
	m.collection, _ = document.Get(m.command).(string)
	m.database, _ = document.Get("$db").(string)
	m.action = action(m.command, document.Get("remove"))
	slices.Sort(names)
	if len(slices.Compact(names)) != document.Len() {
		return errors.New("two fields of one name")
	}
	if document.Get("speculativeAuthenticate") != nil {
		// As for one that authenticates aloud.
		m.command = "speculativeAuthenticate"
	}
	if m.command == "aggregate" && bytes.Contains(raw, sizes) {
		m.command = "aggregate with $collStats"
	}
	return nil
}

// action is what a command that changes something is granted by. "remove" is findAndModify's own
// field: whatever is not false there counts as true.
func action(command string, remove any) string {
	switch {
	case slices.Contains(indexCommands, command):
		return "index"
	case command == "delete":
		return "remove"
	case command == "update":
		return "update"
	case strings.EqualFold(command, "findAndModify"):
		if remove == nil || remove == false {
			return "update"
		}
		return "remove"
	}
	return ""
}

// refusal is the answer to a message that goes no further.
func (m *message) refusal(reason string) ([]byte, error) {
	if m.query {
		return nil, errors.New(reason)
	}
	return encoded(1, m.id, "ok", float64(0), "errmsg", reason, "code", int32(13), "codeName", "Unauthorized")
}

// encoded is a message with one document.
func encoded(id, to int32, pairs ...any) ([]byte, error) {
	document, err := wirebson.NewDocument(pairs...)
	if err != nil {
		return nil, err
	}
	body, err := wire.NewOpMsg(document)
	if err != nil {
		return nil, err
	}
	content, err := body.MarshalBinary()
	if err != nil {
		return nil, err
	}
	raw := make([]byte, headerBytes, headerBytes+len(content))
	binary.LittleEndian.PutUint32(raw, uint32(headerBytes+len(content)))
	binary.LittleEndian.PutUint32(raw[4:], uint32(id))
	binary.LittleEndian.PutUint32(raw[8:], uint32(to))
	binary.LittleEndian.PutUint32(raw[12:], opMsg)
	return append(raw, content...), nil
}
