package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"context"
)

const handshakeSeconds = 10 * time.Second

// name is what a service can be called: no underscore, so that none is called as a role of ours.
var name = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

// guard lets clients in as who their certificates say they are, and as nobody else.
type guard struct {
	*configuration
	roles *roles

	mu       sync.Mutex
	sessions map[string]map[net.Conn]chan struct{} // identity → its connections, closed when ended
}

// settings are made anew for each handshake: rotated files need no signal.
func (g *guard) settings(*tls.ClientHelloInfo) (*tls.Config, error) {
	// One directory for all three, also while it is being replaced.
	directory, err := filepath.EvalSymlinks(g.Credentials)
	if err != nil {
		return nil, err
	}
	own, err := tls.LoadX509KeyPair(
		filepath.Join(directory, "certificate.pem"), filepath.Join(directory, "private_key.pem"))
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(filepath.Join(directory, "bundle.pem"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("no roots")
	}
	return &tls.Config{
		Certificates:           []tls.Certificate{own},
		ClientCAs:              roots,
		ClientAuth:             tls.RequireAndVerifyClientCert, // and its usage, clientAuth
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true, // who resumes shows no certificate
	}, nil
}

func (g *guard) accept(clients net.Listener) error {
	outer := &tls.Config{GetConfigForClient: g.settings, MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true}
	for {
		client, err := clients.Accept()
		if err != nil {
			var passing net.Error
			if errors.As(err, &passing) && passing.Timeout() {
				continue
			}
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			time.Sleep(poll) // no file descriptors: somebody will end
			continue
		}
		go g.serve(tls.Server(client, outer))
	}
}

func (g *guard) serve(client *tls.Conn) {
	defer client.Close()
	_ = client.SetDeadline(time.Now().Add(handshakeSeconds))
	if err := client.Handshake(); err != nil {
		return
	}
	identity, err := g.identity(client.ConnectionState())
	if err != nil {
		slog.Warn("refused", "reason", err)
		return
	}
	ended := g.enter(identity, client)
	defer g.leave(identity, client, ended)
	// After it is known to be in: whoever is shown out later finds it.
	if !g.roles.admits(identity) {
		slog.Warn("refused", "identity", identity)
		return
	}
	_ = client.SetDeadline(time.Time{})
	s := &session{guard: g, identity: identity, client: client, reader: bufio.NewReader(client)}
	defer s.close()
	if err := s.run(context.Background()); err != nil {
		slog.Debug("session ends", "identity", identity, "error", err)
	}
}

// identity is the service of the one SPIFFE ID that the verified leaf bears.
func (g *guard) identity(state tls.ConnectionState) (string, error) {
	if len(state.VerifiedChains) == 0 || len(state.PeerCertificates) == 0 {
		return "", errors.New("no verified certificate")
	}
	leaf := state.PeerCertificates[0]
	if leaf.IsCA || len(leaf.URIs) != 1 {
		return "", fmt.Errorf("%d URIs in the certificate, and not one", len(leaf.URIs))
	}
	id := leaf.URIs[0].String()
	service, ours := strings.CutPrefix(id, "spiffe://"+g.TrustDomain+"/")
	if !ours || !name.MatchString(service) {
		return "", fmt.Errorf("%q is no service here", id)
	}
	return service, nil
}

func (g *guard) enter(identity string, client net.Conn) chan struct{} {
	ended := make(chan struct{})
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.sessions[identity] == nil {
		g.sessions[identity] = map[net.Conn]chan struct{}{}
	}
	g.sessions[identity][client] = ended
	return ended
}

func (g *guard) leave(identity string, client net.Conn, ended chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.sessions[identity], client)
	if len(g.sessions[identity]) == 0 {
		delete(g.sessions, identity)
	}
	close(ended)
}

// showOut ends the sessions of one identity, and returns once they have ended; how many.
func (g *guard) showOut(identity string) int {
	g.mu.Lock()
	var ending []chan struct{}
	for client, ended := range g.sessions[identity] {
		// Below TLS: a farewell would wait for a client that does not read.
		_ = client.(*tls.Conn).NetConn().Close()
		ending = append(ending, ended)
	}
	g.mu.Unlock()
	for _, ended := range ending {
		<-ended
	}
	return len(ending)
}

// may says whether the operator lets this identity do something with a collection. The file is read
// each time: nobody has to tell us of a new one, and one that cannot be read lets nobody.
func (g *guard) may(identity, action, database, collection string) bool {
	text, err := os.ReadFile(g.Grants)
	if err != nil {
		return false
	}
	var may map[string]map[string][]string
	return json.Unmarshal(text, &may) == nil && database == g.Database &&
		slices.Contains(may[identity][collection], action)
}

// obey answers the operator: a line that names an identity ends its sessions.
func (g *guard) obey(operator net.Listener) error {
	for {
		asked, err := operator.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer asked.Close()
			lines := bufio.NewScanner(asked)
			for lines.Scan() {
				fmt.Fprintln(asked, g.showOut(lines.Text()))
			}
		}()
	}
}
