"""What was left out is said: of streams, of gRPC, of what grants all, of apps with one caller."""

from tests.envoy.probes.shop import SHOP
from watertight.enforcers.envoy.probes.gaps import GRPC, NO_GRANTS, ONE_CALLER, STREAM, gaps


def test_each_channel_with_something_left_out_is_named() -> None:
    said = {(gap.channel, gap.what) for gap in gaps(SHOP) if " -> host" not in gap.channel}
    assert said == {
        ("storefront -> catalogue", GRPC),
        ("orders -> stock", STREAM),
        ("orders -> mailer", ONE_CALLER),
        ("orders -> mailer", NO_GRANTS),
    }
