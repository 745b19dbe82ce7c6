"""What is sent is what was said, once; what cannot be said is refused with its line."""

import json
import os
import subprocess
import sys

import pytest

from tests.dataplane.xds.playbook import CLUSTER, LISTENER, SECRET, resource
from watertight.dataplane.resources import Resource
from watertight.dataplane.xds.encode import Unencodable, content_version, encode, encode_all
from watertight.model.system import Position

LINE = Position("watertight.yaml", 7, 3)
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"


def test_the_version_depends_on_the_content_alone() -> None:
    one = {"name": "a", "connect_timeout": "1s"}
    other_order = {"connect_timeout": "1s", "name": "a"}
    assert content_version(one) == content_version(other_order)
    assert content_version(one) != content_version({**one, "connect_timeout": "2s"})


def test_the_version_is_the_same_in_another_process() -> None:
    body = {"name": "a", "metadata": {"filter_metadata": {k: {} for k in "qwertyuiop"}}}
    code = (
        "import json, sys; from watertight.dataplane.xds.encode import content_version; "
        "print(content_version(json.loads(sys.argv[1])))"
    )
    versions = {
        subprocess.run(
            [sys.executable, "-c", code, json.dumps(body)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert versions == {content_version(body)}


def test_types_inside_are_found_without_a_list() -> None:
    config = {"@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"}
    body = {
        "name": "a",
        "filter_chains": [{"filters": [{"name": "rbac", "typed_config": config}]}],
    }
    assert b"filters.http.rbac.v3.RBAC" in encode(Resource(LISTENER, "a", body)).body.value


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"name": "a", "colour": "red"}, 'has no field named "colour"'),
        ({"name": "a", "alt_stat_name": 5}, "alt_stat_name"),
        ({"name": "b"}, "its name is 'b'"),
        ({}, "its name is None"),
        (
            {"name": "a", "metadata": {"typed_filter_metadata": {"x": {"@type": ROUTER + "X"}}}},
            "RouterX",
        ),
        (
            {"name": "a", "metadata": {"typed_filter_metadata": {"x": {"@type": "t/envoy.no.X"}}}},
            "envoy.no",
        ),
    ],
    ids=["field", "value", "other-name", "no-name", "type", "package"],
)
def test_what_is_wrong_is_refused_with_its_line(body: dict[str, object], detail: str) -> None:
    with pytest.raises(Unencodable) as error:
        encode(Resource(CLUSTER, "a", body, LINE))
    assert str(error.value).startswith("watertight.yaml:7:3: The Cluster 'a' cannot be encoded:")
    assert detail in str(error.value)
    assert "\n" not in str(error.value)


def _with_options(**options: object) -> Resource:
    key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    config = {
        "@type": f"type.googleapis.com/{key}",
        "explicit_http_config": {"http2_protocol_options": options},
    }
    body = {"name": "a", "typed_extension_protocol_options": {key: config}}
    return Resource(CLUSTER, "a", body, LINE)


def test_what_is_newer_than_the_published_protos_travels_as_json() -> None:
    sent = encode(_with_options(max_header_field_size_kb=256)).body.value
    assert b"xds.type.v3.TypedStruct" in sent
    assert b"max_header_field_size_kb" in sent
    assert b"TypedStruct" not in encode(_with_options(max_concurrent_streams=5)).body.value


def test_what_stands_beside_it_is_checked_all_the_same() -> None:
    with pytest.raises(Unencodable, match="colour"):
        encode(_with_options(max_header_field_size_kb=256, colour="red"))
    newer = {"name": "a", "max_header_field_size_kb": 256}
    with pytest.raises(Unencodable, match="max_header_field_size_kb"):
        encode(Resource(CLUSTER, "a", newer, LINE))


def test_no_secret_is_quoted() -> None:
    body = {"name": "default", "tls_certificate": {"private_key": {"hunter2": ""}}}
    with pytest.raises(Unencodable) as error:
        encode(Resource(SECRET, "default", body))
    assert "hunter2" not in str(error.value)
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__
    assert "hunter2" not in repr(encode(resource(SECRET, "default")))


def test_d9_a_name_that_appears_twice_is_refused() -> None:
    with pytest.raises(Unencodable, match="appears twice"):
        encode_all([resource(CLUSTER, "a"), resource(CLUSTER, "a", 2)], {})


def test_what_is_unchanged_is_not_built_again() -> None:
    first = encode_all([resource(CLUSTER, "a"), resource(CLUSTER, "b")], {})
    second = encode_all([resource(CLUSTER, "a"), resource(CLUSTER, "b", 2)], first)
    assert second[CLUSTER, "a"].body is first[CLUSTER, "a"].body
    assert second[CLUSTER, "b"].version != first[CLUSTER, "b"].version


def test_what_only_moved_in_the_file_is_unchanged_but_knows_its_new_line() -> None:
    first = encode_all([resource(CLUSTER, "a")], {})
    moved = Resource(CLUSTER, "a", resource(CLUSTER, "a").body, LINE)
    second = encode_all([moved], first)
    assert second[CLUSTER, "a"] == first[CLUSTER, "a"]
    assert second[CLUSTER, "a"].at == LINE
