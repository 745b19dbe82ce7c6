package main

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const askSeconds = 5 * time.Second

// roles asks PostgreSQL who may come in.
type roles struct{ pool *pgxpool.Pool }

// openRoles waits until PostgreSQL answers.
func openRoles(ctx context.Context, c *configuration) (*roles, error) {
	settings, err := pgxpool.ParseConfig("")
	if err != nil {
		return nil, err
	}
	settings.ConnConfig.Host = c.Sockets
	settings.ConnConfig.Port = 5432
	settings.ConnConfig.Database = "postgres"
	settings.ConnConfig.User = c.Owner
	settings.ConnConfig.Password = ""
	settings.ConnConfig.TLSConfig = nil
	settings.ConnConfig.Fallbacks = nil
	settings.MaxConns = 2
	pool, err := pgxpool.NewWithConfig(ctx, settings)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(startPatience)
	for {
		if err = pool.Ping(ctx); err == nil {
			return &roles{pool}, nil
		}
		if time.Now().After(deadline) {
			pool.Close()
			return nil, err
		}
		time.Sleep(poll)
	}
}

// admits says whether this role is there and may log in now. The owner and the operator are none
// of the services: their names hold what no service's does (see name).
func (r *roles) admits(role string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), askSeconds)
	defer cancel()
	var may bool
	err := r.pool.QueryRow(ctx,
		"SELECT rolcanlogin AND NOT rolsuper FROM pg_roles WHERE rolname = $1", role).Scan(&may)
	return err == nil && may
}
