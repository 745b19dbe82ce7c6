-- The shop's books. Run by the owner of the database; services have what their channels grant.
CREATE TABLE IF NOT EXISTS sales (
    "order" text PRIMARY KEY,
    sku text NOT NULL,
    quantity integer NOT NULL,
    total numeric(12, 2) NOT NULL,
    booked_at timestamptz NOT NULL DEFAULT now()
);
