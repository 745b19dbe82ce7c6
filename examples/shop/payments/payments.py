"""The shop's till: `POST /charges`, `GET /charges/{id}`, `POST /refunds`. A Flask program."""

import os
import uuid

from flask import Flask, abort, jsonify, request
from flask.typing import ResponseReturnValue

app = Flask(__name__)
CURRENCY = os.environ.get("CURRENCY", "EUR")
charges: dict[str, dict[str, object]] = {}


@app.get("/healthz")
def ready() -> ResponseReturnValue:
    return jsonify(ready=True)


@app.post("/charges")
def charge() -> ResponseReturnValue:
    wanted = request.get_json()
    try:
        amount, customer = float(wanted["amount"]), str(wanted["customer"])
    except (KeyError, TypeError, ValueError):
        abort(400, "a charge is {amount, customer}")
    number = uuid.uuid4().hex
    charges[number] = {
        "id": number,
        "amount": amount,
        "currency": CURRENCY,
        "customer": customer,
        "refunded": False,
    }
    return charges[number], 201


@app.get("/charges/<number>")
def one(number: str) -> ResponseReturnValue:
    return charges.get(number) or abort(404)


@app.post("/refunds")
def refund() -> ResponseReturnValue:
    wanted = request.get_json()
    found = charges.get(str(wanted.get("charge"))) or abort(404)
    found["refunded"] = True
    return found, 201
