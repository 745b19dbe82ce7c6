"""The page of figures is rewritten where it should be, and nowhere else."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import tables
from bench.run import BENCHES, PAGE

PAGE_TEXT = (
    "# P\n<!-- table: a -->\nold\n<!-- end -->\nbetween\n<!-- table: b -->\nold\n<!-- end -->\n"
)


def test_only_the_named_table_is_replaced() -> None:
    page = tables.replace(PAGE_TEXT, "b", r"new \1")
    assert page == PAGE_TEXT.replace("b -->\nold", "b -->\nnew \\1")


def test_a_page_without_the_table_is_refused() -> None:
    with pytest.raises(tables.NoSuchTable):
        tables.replace(PAGE_TEXT, "c", "new")


def test_the_page_has_a_place_for_every_bench() -> None:
    page = PAGE.read_text()
    for name in ("machine", *(bench.name for bench in BENCHES)):
        tables.replace(page, name, "")


def test_what_did_not_run_keeps_no_figures() -> None:
    assert tables.render("paths", None) == tables.NOT_RUN


def test_the_tables_of_the_data_paths() -> None:
    row: dict[str, Any] = {
        "name": "tunnel",
        "mode": "keep-alive",
        "requests_per_second": 23456.7,
        "p50_ms": 1.234,
        "p99_ms": 3.456,
        "errors": 0,
        "lowest": 20000,
        "highest": 30000,
    }
    result = {
        "seconds": 5,
        "rounds": 3,
        "connections": 32,
        "rows": [row],
        "ratios": {"tunnel / nginx": {"keep-alive": 1.62}, "policy / http": {"keep-alive": None}},
        "sidecar_megabytes": {"idle": {"app": 65.2}, "after load": {"app": 66.9}},
    }
    text = tables.render("paths", json.loads(json.dumps(result)))
    assert "| tunnel | 23,457 | 20,000–30,000 | 1.23 | 3.46 | 0 |" in text
    assert "| tunnel / nginx | 1.62 × |" in text
    assert "| policy / http | — |" in text
    assert "| `app` | 65 | 67 |" in text


def test_the_table_of_configuration_has_a_column_for_each_size() -> None:
    row = dict.fromkeys(
        (
            "channels",
            "one_grant_proxies_changed",
            "bytes_per_proxy",
            "largest_bytes_per_proxy",
            "compile_seconds",
            "connect_to_acked_seconds",
            "one_grant_apply_seconds",
            "one_grant_push_to_acked_seconds",
            "every_grant_apply_seconds",
        ),
        3,
    )
    text = tables.render("xds", {"rows": [row | {"services": 10}, row | {"services": 1000}]})
    assert text.startswith("| services | 10 | 1,000 |\n")
    assert "| compile the plan, ms | 3,000.0 | 3,000.0 |" in text
    assert "| bytes sent to a proxy, mean | 3 | 3 |" in text


def test_the_table_of_the_whole_system() -> None:
    result = {
        "up_to_sealed_seconds": 4.56,
        "apply_command_seconds": 0.987,
        "revoke_seconds": 0.0123,
        "proof": {
            "channels": 12,
            "probes": 1234,
            "held": 1234,
            "broken": 0,
            "not_run": 0,
            "seconds": 12.0,
            "probes_per_second": 102.8,
        },
        "mebibytes": {"sidecar Rss": 66.1, "sidecar Pss": 17.9, "pod Pss": 12.7},
    }
    text = tables.render("system", result)
    assert "| `up --detach` to sealed, s | 4.6 |" in text
    assert "refused, ms | 12 |" in text
    assert "| `verify`: probes | 1,234 |" in text


def test_the_tables_of_databases_and_brokers() -> None:
    def rate(median: float) -> dict[str, float]:
        return {"per_second": median, "lowest": median - 1, "highest": median + 1000}

    kind: dict[str, Any] = {
        "title": "NATS",
        "version": "2.15.1",
        "operations": "messages",
        "rows": [{"name": "channel", "work": rate(2345.6), "connect": rate(200)}],
        "ratios": {"channel / plaintext": {"work": 0.876, "connect": 0.25}},
        "seconds": {
            "rotated": {"seen": 0.1037, "done": 1.2},
            "revoked": {"seen": 0.012, "done": 0.034},
        },
    }
    result = {
        "seconds": 3,
        "rounds": 2,
        "clients": 4,
        "kinds": [kind, kind | {"title": "RabbitMQ"}],
        "left_out": ["PostgreSQL"],
    }
    text = tables.render("resources", json.loads(json.dumps(result)))
    assert "Not installed, so not run: PostgreSQL." in text
    assert "| NATS 2.15.1 | messages/s |" in text
    assert "| channel | 2,346 | 2,345–3,346 | 200 | 199–1,200 | 20.0 |" in text
    assert "| NATS: channel / plaintext | 0.88 × | 0.25 × |" in text
    assert "| ms from the order | NATS | RabbitMQ |" in text
    assert "| rotated: a new connection sees it | 104 | 104 |" in text


def test_the_machine_is_described_without_naming_it() -> None:
    assert Path("/etc/hostname").read_text().strip() not in tables.machine()
