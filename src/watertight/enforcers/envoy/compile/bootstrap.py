"""What an Envoy is started with: who it is, where its control plane and its admin socket are."""

from watertight.enforcers.contract import Placement
from watertight.enforcers.envoy.compile.blocks import (
    Json,
    cluster,
    http_protocol,
    pipe_address,
    typed,
)

XDS_CLUSTER = "xds"
MAX_CONNECTIONS = 10_000
"""Per proxy, downstream: what is above is refused, before memory or files run out."""

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
                    "static_layer": {"re2.max_program_size.error_level": LARGEST_REGEX},
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
                        max_active_downstream_connections=MAX_CONNECTIONS,
                    ),
                }
            ]
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
