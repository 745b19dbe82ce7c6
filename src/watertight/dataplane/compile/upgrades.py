"""An answer to a request for an upgrade arrives whole, whatever its status is.

Envoy keeps back what follows a request for a WebSocket until it is taken up by 101. To every other
status below 400 it puts an empty body of its own: "WebSocket just needs headers" (its
``upstream_codec_filter.cc``, measured on 1.40). Of an upgrade to a protocol that it has no name for
it hands on whatever is answered, and keeps back what follows likewise. So the callee's proxy asks
its router for a protocol without a name, and the app for a WebSocket all the same. Between two
proxies an answer below 400 has another status, which the caller's proxy takes away again: there
Envoy knows the WebSocket, since only then a declared timeout holds until it is taken up
(docs/adr/0033).
"""

from watertight.dataplane.compile.blocks import Json, extension
from watertight.dataplane.compile.headers import overwrite

NAMELESS = "watertight"
"""What ``Upgrade`` says between the callee's router and the filter below it."""
STATUS_HEADER = "x-watertight-status"
STANDS_FOR_ANOTHER = 530
"""No status that is registered (RFC 9110 section 16.2.1)."""

_TOWARDS_APP = f"""
function envoy_on_request(handle)
  handle:headers():replace("upgrade", "websocket")
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local status = headers:get(":status")
  headers:remove("{STATUS_HEADER}")
  if status ~= "101" and status ~= "204" and status ~= "304" and tonumber(status) < 400 then
    headers:add("{STATUS_HEADER}", status)
    headers:replace(":status", "{STANDS_FOR_ANOTHER}")
  end
end
"""
_TOWARDS_CALLEE = f"""
function envoy_on_response(handle)
  local headers = handle:headers()
  local status = headers:get("{STATUS_HEADER}")
  if status ~= nil and headers:get(":status") == "{STANDS_FOR_ANOTHER}" then
    headers:replace(":status", status)
  end
  headers:remove("{STATUS_HEADER}")
end
"""


def alone() -> Json:
    """One of the ``request_headers_to_add`` of what asks for an upgrade.

    Of other requests Envoy's codec takes ``connection`` away, and what that names (RFC 9110 section
    7.6.1); of these it hands both on (https://github.com/envoyproxy/envoy/pull/44525). Then
    whatever obeys that header behind us drops what we write, if a client names it there.
    """
    return overwrite("connection", "Upgrade")


def towards_app() -> list[Json]:
    """``http_filters`` of the cluster by which a callee's proxy asks its app for upgrades."""
    return [_script("watertight.upgrade_of_app", _TOWARDS_APP), _codec()]


def towards_callee() -> list[Json]:
    """``http_filters`` of the cluster by which a caller's proxy asks a callee's for upgrades."""
    return [_script("watertight.upgrade_of_callee", _TOWARDS_CALLEE), _codec()]


def _script(name: str, source: str) -> Json:
    kind = "extensions.filters.http.lua.v3.Lua"
    return extension(name, kind, default_source_code={"inline_string": source})


def _codec() -> Json:
    """What ends such a list."""
    return extension(
        "envoy.filters.http.upstream_codec",
        "extensions.filters.http.upstream_codec.v3.UpstreamCodec",
    )
