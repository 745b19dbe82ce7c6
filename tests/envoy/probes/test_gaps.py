"""What was left out is said: of streams, of gRPC, and of apps that only one caller asks."""

from tests.envoy.probes.shop import SHOP
from watertight.enforcers.envoy.probes.gaps import GRPC, ONE_CALLER, STREAM, gaps


def test_each_channel_with_something_left_out_is_named_once() -> None:
    said = {(gap.channel, gap.what) for gap in gaps(SHOP) if " -> host" not in gap.channel}
    assert said == {
        ("storefront -> catalogue", GRPC),
        ("orders -> stock", STREAM),
        ("orders -> mailer", ONE_CALLER),
    }
