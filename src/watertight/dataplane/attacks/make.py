"""How the probes of this enforcer are made."""

from watertight.attack.make import ProbeMaker

ENFORCER = "envoy"

_MAKER = ProbeMaker(ENFORCER)
attack = _MAKER.attack
use = _MAKER.use
