"""Token buckets at the gateway: Envoy's ``local_ratelimit`` with one bucket a client."""

import math

from watertight.dataplane.compile.blocks import Json, extension, seconds, typed
from watertight.dataplane.compile.refusal import NotCompilable
from watertight.dataplane.compile.tokens import subject_key
from watertight.model.system import Limit, Per, Route

BY_ADDRESS = "watertight.limit_by_address"
BY_SUBJECT = "watertight.limit_by_subject"
_KIND = "extensions.filters.http.local_ratelimit.v3.LocalRateLimit"

MAX_BUCKETS = 100_000
"""The least recently used bucket is forgotten above this, so a client would need as many names to
get rid of its own. Subjects are verified names and addresses are real ones: both cost something."""
IPV6_PREFIX = 64
"""What one customer is given; a bucket for each address within it would be none."""

_ALWAYS = {"numerator": 100, "denominator": "HUNDRED"}


def limit_filter(name: str) -> Json:
    """The filter in the frozen listener; it does nothing until a route says so."""
    return extension(name, _KIND, stat_prefix=name)


def per_route(route: Route) -> Json:
    """``typed_per_filter_config`` of the route's limit, if it has one.

    Raises :class:`NotCompilable` for a limit per subject where nobody has to be one.
    """
    limit = route.limit
    if limit is None:
        return {}
    if limit.per is Per.ADDRESS:
        action: Json = {
            "masked_remote_address": {
                "v4_prefix_mask_len": 32,
                "v6_prefix_mask_len": IPV6_PREFIX,
            }
        }
        return {BY_ADDRESS: _buckets(limit, action, "masked_remote_address")}
    if route.require is None:
        raise NotCompilable(
            route.at,
            f"the route `{route.path}` is open to anyone, so that no subject can be counted.",
            remedy="Say `limit: {per: address, …}`, or require a token.",
        )
    action = {
        "metadata": {
            "metadata_key": subject_key(),
            "descriptor_key": "subject",
            "source": "DYNAMIC",
        }
    }
    return {BY_SUBJECT: _buckets(limit, action, "subject")}


def _buckets(limit: Limit, action: Json, key: str) -> Json:
    bucket = {
        "max_tokens": limit.requests,
        "tokens_per_fill": limit.requests,
        "fill_interval": seconds(limit.window_seconds),
    }
    wait = max(1, math.ceil(limit.window_seconds / limit.requests))
    return typed(
        _KIND,
        stat_prefix=limit.per.value,
        # For a request that yields no descriptor: all such share one bucket; none goes free.
        token_bucket=bucket,
        descriptors=[{"entries": [{"key": key}], "token_bucket": bucket}],
        rate_limits=[{"actions": [action]}],
        always_consume_default_token_bucket=False,
        max_dynamic_descriptors=MAX_BUCKETS,
        filter_enabled={"default_value": _ALWAYS},
        filter_enforced={"default_value": _ALWAYS},
        response_headers_to_add=[
            {
                "header": {"key": "retry-after", "value": str(wait)},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
    )
