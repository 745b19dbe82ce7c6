// Command watertight-mongodb is a MongoDB server for Watertight: FerretDB on a PostgreSQL of its
// own, behind a guard that binds each client certificate to a PostgreSQL role.
//
//	watertight-mongodb CONFIGURATION POSTGRES [ARGUMENT…]
//
// The configuration is a file of JSON (type configuration). POSTGRES is started as a child, and
// ends with us. Only the guard listens where an app can come; everything else is a Unix socket in
// a directory that only our own user and the operator pass.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/FerretDB/FerretDB/ferretdb"
)

const (
	poolConnections = 8                // to PostgreSQL, of each role
	startPatience   = 50 * time.Second // a server that was killed replays its log first
	poll            = 20 * time.Millisecond
)

// configuration is what the operator writes; no secrets.
type configuration struct {
	Address     string `json:"address"`
	TrustDomain string `json:"trust_domain"`
	Credentials string `json:"credentials"` // directory: certificate, key and roots
	Sockets     string `json:"sockets"`     // directory
	Database    string `json:"database"`
	Owner       string `json:"owner"`  // the role that owns all collections
	Grants      string `json:"grants"` // file: who may do what with which collections
}

func (c *configuration) ferretdb() string { return filepath.Join(c.Sockets, "ferretdb.sock") }
func (c *configuration) operator() string { return filepath.Join(c.Sockets, "guard.sock") }

func main() {
	if err := run(os.Args[1:]); err != nil {
		slog.Error("ends", "error", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	// The child is told of our death by the death of the thread that made it.
	runtime.LockOSThread()
	if len(arguments) < 2 {
		return errors.New("how to start it: CONFIGURATION POSTGRES [ARGUMENT…]")
	}
	text, err := os.ReadFile(arguments[0])
	if err != nil {
		return err
	}
	var c configuration
	if err := json.Unmarshal(text, &c); err != nil {
		return fmt.Errorf("%s: %w", arguments[0], err)
	}
	told := make(chan os.Signal, 4)
	signal.Notify(told, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)

	postgres := exec.Command(arguments[1], arguments[2:]...)
	postgres.Stdout, postgres.Stderr = os.Stdout, os.Stderr
	postgres.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGINT}
	if err := postgres.Start(); err != nil {
		return err
	}
	ended := make(chan error, 2)
	gone := make(chan struct{})
	go func() {
		ended <- fmt.Errorf("PostgreSQL has ended: %v", postgres.Wait())
		close(gone)
	}()
	defer func() {
		_ = postgres.Process.Signal(syscall.SIGINT) // a fast shutdown: nothing is lost
		<-gone
	}()

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { ended <- serve(ctx, &c) }()
	for {
		select {
		case err := <-ended:
			return err
		case number := <-told:
			if number != syscall.SIGHUP {
				return nil
			}
			_ = postgres.Process.Signal(syscall.SIGHUP) // ours are read at each handshake
		}
	}
}

// serve returns only on failure.
func serve(ctx context.Context, c *configuration) error {
	roles, err := openRoles(ctx, c)
	if err != nil {
		return err
	}
	syscall.Umask(0o077)
	_ = os.Remove(c.ferretdb())
	query := url.Values{"host": {c.Sockets}, "pool_max_conns": {strconv.Itoa(poolConnections)}}
	server, err := ferretdb.New(&ferretdb.Config{
		// It would write each refused command out, as often as somebody sends one.
		Logger:        slog.New(slog.DiscardHandler),
		Handler:       "postgresql",
		PostgreSQLURL: "postgres:///postgres?" + query.Encode(),
		Listener:      ferretdb.ListenerConfig{Unix: c.ferretdb()},
	})
	if err != nil {
		return err
	}
	failed := make(chan error, 3)
	go func() { failed <- fmt.Errorf("FerretDB has ended: %v", server.Run(ctx)) }()
	// FerretDB remembers for good which collections there are, as the first who asks sees them.
	if err := see(ctx, c); err != nil {
		return err
	}
	g := &guard{configuration: c, roles: roles, sessions: map[string]map[net.Conn]chan struct{}{}}
	operator, err := listenUnix(c.operator())
	if err != nil {
		return err
	}
	clients, err := net.Listen("tcp", c.Address)
	if err != nil {
		return err
	}
	go func() { failed <- g.obey(operator) }()
	go func() { failed <- g.accept(clients) }()
	return <-failed
}

// see has FerretDB look, as who sees all.
func see(ctx context.Context, c *configuration) error {
	deadline := time.Now().Add(startPatience)
	for {
		backend, err := logIn(ctx, c.ferretdb(), c.Owner)
		if err == nil {
			err = backend.command("listDatabases", int32(1), "nameOnly", true, "$db", "admin")
			backend.Close()
		}
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(poll)
	}
}

func listenUnix(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return net.Listen("unix", path)
}
