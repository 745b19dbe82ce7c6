"""Views, as lists: what is in them, and in which order it is mounted."""

from pathlib import Path, PurePath

import pytest

from watertight.runtime.mounts import (
    AppSight,
    ProxySight,
    TooMuchToShowError,
    app_view,
    network_files,
    proxy_view,
    system_directories,
)
from watertight.runtime.pod_wire import Mount

SYSTEM = (Mount("bind", "/usr", "/usr"), Mount("symlink", "/bin", "usr/bin"))


def sight(**changes: object) -> AppSight:
    """A service in a project under a closed home."""
    usual: dict[str, object] = {
        "project": Path("/home/ann/shop"),
        "data": Path("/home/ann/shop/.watertight/data/orders"),
        "workload_api": Path("/run/watertight/1/workload/orders"),
        "credentials": Path("/run/watertight/1/credentials/orders"),
        "temp_bytes": 1 << 20,
        "programs": (Path("/home/ann/shop/.venv"), Path("/home/ann/.pyenv/versions/3.11.7")),
        "hidden_directories": (Path("/home/ann/shop/.watertight"),),
        "hidden_files": (Path("/home/ann/shop/tls/key.pem"),),
    }
    return AppSight(**(usual | changes))  # type: ignore[arg-type]


def targets(view: tuple[Mount, ...]) -> list[str]:
    """Where something is mounted."""
    return [step.target for step in view]


def test_of_a_home_only_what_is_needed_appears() -> None:
    """The interpreter's prefix and the project; not the home around them."""
    view = targets(app_view(SYSTEM, (), sight()))
    assert [t for t in view if t.startswith("/home")] == [
        "/home/ann/.pyenv/versions/3.11.7",
        "/home/ann/shop",
        "/home/ann/shop/.watertight",
        "/home/ann/shop/.watertight/data/orders",
        "/home/ann/shop/tls/key.pem",
    ]


def test_parents_are_mounted_before_their_children() -> None:
    """Else the later one would hide the earlier: also where the project lies under /tmp."""
    view = app_view(SYSTEM, (), sight(project=Path("/tmp/p"), data=Path("/tmp/p/.watertight/d")))
    seen: list[PurePath] = []
    for target in map(PurePath, targets(view)):
        assert not [earlier for earlier in seen if earlier.is_relative_to(target)]
        seen.append(target)
    assert {PurePath("/tmp"), PurePath("/tmp/p"), PurePath("/tmp/p/.watertight/d")} <= set(seen)


def test_what_the_system_shows_is_not_shown_twice() -> None:
    """Neither what lies below one of its directories nor what is reached through a link."""
    programs = (Path("/usr"), Path("/bin/sh"), Path("/usr/lib/jvm"), Path("/opt/server"))
    view = targets(app_view(SYSTEM, (), sight(programs=programs)))
    assert view.count("/usr") == 1
    assert {"/bin/sh", "/usr/lib/jvm", "/opt/server"} & set(view) == {"/opt/server"}


def test_only_data_and_memory_are_writable() -> None:
    """Everything bound from the host is read-only, but devices and the service's own data."""
    view = app_view(SYSTEM, network_files(Path("/run/x/hosts")), sight())
    writable = [s.target for s in view if s.kind == "bind" and s.writable and not s.devices]
    assert writable == ["/home/ann/shop/.watertight/data/orders"]
    assert {s.kind for s in view if s.target in {"/tmp", "/dev/shm"}} == {"tmpfs"}
    assert {s.source for s in view if s.target == "/var/tmp"} == {"/tmp"}


def test_what_is_secret_in_the_project_is_hidden() -> None:
    """Our state under an empty directory, the gateway's key under an empty file."""
    view = {step.target: step.kind for step in app_view(SYSTEM, (), sight())}
    assert view["/home/ann/shop/.watertight"] == "tmpfs"
    assert view["/home/ann/shop/tls/key.pem"] == "empty"


def test_names_come_from_our_hosts_file_alone() -> None:
    """And no resolver is named."""
    view = network_files(Path("/run/x/hosts"))
    assert Mount("bind", "/etc/hosts", "/run/x/hosts") in view
    assert Mount("empty", "/etc/resolv.conf") in view


@pytest.mark.parametrize("path", ["/", "/run", "/proc", "/dev"])
def test_a_project_that_would_show_everything_is_refused(path: str) -> None:
    """A declaration at the root of the file system."""
    with pytest.raises(TooMuchToShowError, match="directory of their own"):
        app_view(SYSTEM, (), sight(project=Path(path)))


def test_a_proxy_sees_all_doors_and_makes_only_its_own() -> None:
    """No project, no other proxy's directory, no Workload API, no data."""
    run = Path("/run/watertight/1")
    view = proxy_view(
        SYSTEM,
        (),
        ProxySight(
            doors=run / "mesh",
            own_doors=run / "mesh/orders",
            xds=run / "xds/orders",
            private=run / "proxies/orders",
            binary=Path("/opt/envoy"),
        ),
    )
    ours = {s.target: s.writable for s in view if s.target.startswith(("/run/", "/opt"))}
    assert ours == {
        "/opt/envoy": False,
        "/run/watertight/1/mesh": False,
        "/run/watertight/1/mesh/orders": True,
        "/run/watertight/1/proxies/orders": True,
        "/run/watertight/1/xds/orders": False,
    }


def test_the_systems_directories_are_taken_as_they_are(tmp_path: Path) -> None:
    """Real ones are bound, links stay links, what is not there is left out."""
    (tmp_path / "usr").mkdir()
    (tmp_path / "etc").mkdir()
    (tmp_path / "bin").symlink_to("usr/bin")
    assert system_directories(tmp_path) == (
        Mount("bind", "/usr", str(tmp_path / "usr")),
        Mount("symlink", "/bin", "usr/bin"),
        Mount("bind", "/etc", str(tmp_path / "etc")),
    )
