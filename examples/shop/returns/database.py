"""A connection to the returns' database, from what stands in a service's environment."""

import os
import ssl

import pymysql


def connected() -> pymysql.Connection:
    """By the certificate of the moment; it lasts as long as it is used."""
    context = ssl.create_default_context(cafile=os.environ["RETURNS_DB_CA"])
    context.load_cert_chain(os.environ["RETURNS_DB_CERT"], os.environ["RETURNS_DB_KEY"])
    return pymysql.connect(
        host=os.environ["RETURNS_DB_HOST"],
        port=int(os.environ["RETURNS_DB_PORT"]),
        user=os.environ["RETURNS_DB_USER"],
        database=os.environ["RETURNS_DB_DATABASE"],
        ssl=context,
        autocommit=True,
    )
