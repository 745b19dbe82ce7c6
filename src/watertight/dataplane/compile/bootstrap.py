"""What an Envoy is started with: who it is, where its control plane and its admin socket are."""

from watertight.dataplane.compile.blocks import (
    Json,
    cluster,
    http_protocol,
    pipe_address,
    seconds,
    typed,
)
from watertight.model.placement import Placement
from watertight.model.system import GATEWAY

XDS_CLUSTER = "xds"
MAX_CONNECTIONS = 10_000
"""Per proxy, downstream: what is above is refused, before memory or files run out."""
FILES_BESIDE, FILES_EACH = 128, 2
"""What a proxy has open besides connections, and for each: the caller's, and one to the app."""

HEAP_BYTES = {GATEWAY: 2 << 30}
USUAL_HEAP_BYTES = 1 << 30
"""What a proxy may allocate: more than its callers can make it hold, each up to what its door takes
(docs/adr/0028). What bounds the whole process is larger, for the kernel's buffers count there."""
GIVE_BACK, RESET_FROM, RESET_ALL, REFUSE = 0.2, 0.8, 0.95, 0.97
"""Parts of it: from where on free memory goes back to the host, the largest HTTP/2 streams are
reset (all of the largest at the second), and nothing new is taken."""
CROWDED_FROM, CROWDED = 0.03, 0.06
"""At the gateway, where anybody may open connections: of 2 GiB one that asks nothing takes 13 KiB,
one that was answered 23, one with a request 85. From the first part on, and most at the second, it
waits less long. Envoy's own count of connections drives no action (measured on 1.40), so memory
does. ``disable_http_keepalive`` is no help: what is closed behind an answer cuts a slow reader."""
CROWDED_IDLE_SECONDS = 5.0
CROWDED_HANDSHAKE_SECONDS = 3.0
"""What a connection with no request may take, and a handshake, where it is crowded."""
TRACKED_POWER = 15
"""Streams are told apart by what they hold, from 2^15 bytes on."""
_HEAP = "envoy.resource_monitors.fixed_heap"

USE_ALLOCATED = "envoy.reloadable_features.fixed_heap_use_allocated"
"""What counts is what is in use. Envoy's own measure has what its allocator keeps of freed memory,
which is given back late or never: a proxy that was full once would refuse for ever
(https://github.com/envoyproxy/envoy/issues/21923)."""

MISSED_SECONDS, HUNG_SECONDS = 5, 10
"""How long a thread may be away until Envoy counts that. By its own default, 0.2 and 1 s, each of
them wakes ten times a second to say that it is there: most of what an idle proxy does. We see a
proxy that hangs by its silence (control/hanging.py)."""

LARGEST_REGEX = 65_536
"""Of the programs that RE2 makes. Envoy's own limit of 100 guards against expressions of strangers;
ours come from path templates, whose length is bounded, and RE2 takes linear time."""


def bootstrap(placement: Placement, workload: str) -> Json:
    """The whole of an Envoy's own configuration; everything else comes by ADS."""
    ads = {"ads": {}, "resource_api_version": "V3"}
    return {
        "node": {"id": workload, "cluster": workload},
        "admin": {
            "address": pipe_address(placement.admin_socket(workload), mode=0o600),
            "ignore_global_conn_limit": True,
        },
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [
                    {
                        "envoy_grpc": {
                            "cluster_name": XDS_CLUSTER,
                            # Envoy's own default lets a proxy wait up to 30 s for a control
                            # plane that has been back for long.
                            "retry_policy": {
                                "retry_back_off": {"base_interval": "0.2s", "max_interval": "2s"}
                            },
                        }
                    }
                ],
            },
            "cds_config": ads,
            "lds_config": ads,
        },
        "static_resources": {
            "clusters": [
                cluster(
                    XDS_CLUSTER,
                    pipe_address(placement.xds_socket(workload)),
                    typed_extension_protocol_options=http_protocol(
                        "http2",
                        {"connection_keepalive": {"interval": "30s", "timeout": "5s"}},
                        idle_seconds=0,
                    ),
                )
            ]
        },
        "layered_runtime": {
            "layers": [
                {
                    "name": "static",
                    "static_layer": {
                        "re2.max_program_size.error_level": LARGEST_REGEX,
                        USE_ALLOCATED: True,
                    },
                }
            ]
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": typed(
                        "extensions.resource_monitors.downstream_connections.v3"
                        ".DownstreamConnectionsConfig",
                        max_active_downstream_connections=_most_connections(placement.open_files),
                    ),
                },
                {
                    "name": _HEAP,
                    "typed_config": typed(
                        "extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
                        max_heap_size_bytes=HEAP_BYTES.get(workload, USUAL_HEAP_BYTES),
                    ),
                },
            ],
            "buffer_factory_config": {"minimum_account_to_track_power_of_two": TRACKED_POWER},
            "actions": [
                _action("shrink_heap", {"threshold": {"value": GIVE_BACK}}),
                _action(
                    "reset_high_memory_stream",
                    {
                        "scaled": {
                            "scaling_threshold": RESET_FROM,
                            "saturation_threshold": RESET_ALL,
                        }
                    },
                ),
                _action("stop_accepting_requests", {"threshold": {"value": REFUSE}}),
                _action("stop_accepting_connections", {"threshold": {"value": REFUSE}}),
                *([_for_crowds()] if workload == GATEWAY else []),
            ],
        },
        "watchdogs": {
            name: {
                "miss_timeout": seconds(MISSED_SECONDS),
                "megamiss_timeout": seconds(HUNG_SECONDS),
            }
            for name in ("main_thread_watchdog", "worker_watchdog")
        },
        "stats_config": {
            "stats_matcher": {
                "exclusion_list": {
                    "patterns": [
                        {"contains": ".circuit_breakers."},
                        {"contains": ".lb_"},
                        {"contains": ".zone."},
                        {"prefix": "runtime."},
                    ]
                }
            }
        },
    }


def _most_connections(open_files: int) -> int:
    """One that can open no more files hangs, for it can take no connection, nor refuse it."""
    return min(MAX_CONNECTIONS, max(1, (open_files - FILES_BESIDE) // FILES_EACH))


def _action(name: str, trigger: Json) -> Json:
    """What is done when the heap has grown so far."""
    return {
        "name": f"envoy.overload_actions.{name}",
        "triggers": [{"name": _HEAP, **trigger}],
    }


def _for_crowds() -> Json:
    """Room for others: whoever asks nothing leaves sooner."""
    waits = {
        "HTTP_DOWNSTREAM_CONNECTION_IDLE": CROWDED_IDLE_SECONDS,
        "TRANSPORT_SOCKET_CONNECT": CROWDED_HANDSHAKE_SECONDS,
    }
    sooner = typed(
        "config.overload.v3.ScaleTimersOverloadActionConfig",
        timer_scale_factors=[
            {"timer": timer, "min_timeout": seconds(shortest)} for timer, shortest in waits.items()
        ],
    )
    scaled = {"scaling_threshold": CROWDED_FROM, "saturation_threshold": CROWDED}
    return {**_action("reduce_timeouts", {"scaled": scaled}), "typed_config": sooner}
