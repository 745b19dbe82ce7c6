"""The methods that a grant or a route may name."""

METHODS = (
    *("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"),
    *("PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK"),
    *("ACL", "BASELINE-CONTROL", "BIND", "CHECKIN", "CHECKOUT", "LABEL", "LINK", "MERGE"),
    *("MKACTIVITY", "MKCALENDAR", "MKREDIRECTREF", "MKWORKSPACE", "ORDERPATCH", "REBIND"),
    *("REPORT", "SEARCH", "UNBIND", "UNCHECKOUT", "UNLINK", "UPDATE", "UPDATEREDIRECTREF"),
    "VERSION-CONTROL",
)
"""IANA's Hypertext Transfer Protocol (HTTP) Method Registry, but for CONNECT and TRACE, which are
for proxies, and ``PRI`` and ``*``, which are no methods of requests."""
