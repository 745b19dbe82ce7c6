"""What was left out is said: of streams, long pauses, large limits, apps with one caller."""

from dataclasses import replace

from tests.dataplane.attacks.shop import SHOP
from watertight.dataplane.attacks.exhaust.host import MOST
from watertight.dataplane.attacks.gaps import (
    EARLY,
    GRPC,
    NO_GRANTS,
    ONE_CALLER,
    ONE_CALLER_STREAM,
    PAUSE,
    gaps,
)
from watertight.model.system import SERVICE_LIMITS


def test_each_channel_with_something_left_out_is_named() -> None:
    said = {(gap.channel, gap.what) for gap in gaps(SHOP) if " -> host" not in gap.channel}
    assert said == {
        ("every channel", PAUSE),
        ("every channel", EARLY),
        ("storefront -> catalogue", GRPC),
        ("storefront -> catalogue", ONE_CALLER),
        ("orders -> stock", ONE_CALLER_STREAM),
        ("orders -> mailer", ONE_CALLER),
        ("orders -> mailer", NO_GRANTS),
    }


def test_a_limit_that_a_proof_does_not_use_up_is_said() -> None:
    limits = replace(SERVICE_LIMITS, processes=MOST.processes, files=MOST.files + 1)
    mailer = replace(SHOP.services["mailer"], run=("true",), limits=limits)
    system = replace(SHOP, services={**SHOP.services, "mailer": mailer})
    said = [gap.what for gap in gaps(system) if gap.channel == "mailer -> host"]
    assert said == [
        f"its limit of {limits.files} of open files: a proof uses up {MOST.files} at most"
    ]
