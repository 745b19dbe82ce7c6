"""Conditions on what a proxy itself answers (``local_reply_config``), as access log filters."""

from watertight.dataplane.compile.blocks import Json, extension


def details(*texts: str) -> Json:
    """``%RESPONSE_CODE_DETAILS%`` holds one of these texts."""
    return cel(" || ".join(f"response.code_details.contains('{text}')" for text in texts))


def cel(expression: str) -> Json:
    """A CEL expression over Envoy's attributes holds."""
    return {
        "extension_filter": extension(
            "envoy.access_loggers.extension_filters.cel",
            "extensions.access_loggers.filters.cel.v3.ExpressionFilter",
            expression=expression,
        )
    }
