"""The reviews' database, from what stands in a service's environment."""

import os

import pymongo


def reviews() -> pymongo.MongoClient:
    """A client with the certificate of the moment, which it reads once: make another each time."""
    return pymongo.MongoClient(os.environ["REVIEWS_URL"])


DATABASE = os.environ.get("REVIEWS_DATABASE", "")
