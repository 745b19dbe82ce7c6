"""Tests that take long, and whose kind a shorter one tries too: `make test-all` runs them.

Most others of that sort are marked `slow` where they stand; these are single cases of many.
"""

import functools
import os

CASES = {
    # All kinds of channel are proven by the shop, and these are programs of others.
    "tests/examples/test_proven.py": "tests/system/test_shop.py::test_the_proof_holds",
    # More proofs of whole systems; the tutorial's is one.
    "tests/docs/test_pages.py::test_the_page_does_what_it_shows"
    "[docs/how-to/prove-with-tokens.md]": ("tests/system/test_key_sets.py"),
    **{
        f"tests/docs/test_pages.py::test_the_page_does_what_it_shows[docs/how-to/{page}.md]": (
            "tests/docs/test_pages.py::test_the_page_does_what_it_shows[docs/tutorial.md]"
        )
        for page in ("use-in-ci", "read-the-proof")
    },
    "tests/dataplane/attacks/test_sabotage.py::test_a_weakened_mesh_turns_exactly_these_probes_red"
    "[nothing permitted]": "the other weakenings",
    "tests/dataplane/attacks/test_sabotage.py::test_a_weakened_mesh_turns_exactly_these_probes_red"
    "[also in the clear]": "… [HTTP in the clear]",
    "tests/dataplane/attacks/test_sabotage.py::test_a_weakened_mesh_turns_exactly_these_probes_red"
    "[any name, judged by RBAC alone]": "… [any name]",
    "tests/dataplane/attacks/test_witness.py::test_a_request_that_nobody_saw_arrive_is_not_held"
    "[Proxy.DROPS]": "… [Proxy.HASTY_AND_DROPS]",
    "tests/dataplane/attacks/test_forged.py::test_nor_does_a_silence[without one]": (
        "… [with a witness]"
    ),
    "tests/dataplane/attacks/test_forged.py::test_an_absent_app_proves_nothing[without one]": (
        "… [with a witness]"
    ),
    "tests/dataplane/attacks/test_sabotage.py::test_a_weakened_mesh_turns_exactly_these_probes_red"
    "[a hundred connections for all callers]": "the other weakenings",
    "tests/servers/rabbitmq/test_guard.py::test_no_service_reaches_another_past_its_grants": (
        "tests/servers/rabbitmq/test_deep.py::test_nothing_is_done_that_no_grant_names"
    ),
    "tests/servers/together/test_under_load.py"
    "::test_every_key_is_replaced_under_load_and_nothing_is_lost"
    "[events]": "… [orders-db]",
    **{
        "tests/servers/together/test_under_load.py"
        "::test_a_session_from_before_it_was_revoked_is_of_no_use"
        f"[{server}]": "… [orders-db]"
        for server in ("events", "jobs")
    },
    # The whole of what is proven elsewhere, once more on the servers that get weakened next.
    "tests/dataplane/attacks/test_sabotage.py"
    "::test_all_probes_hold_on_the_mesh_as_it_is_compiled": (
        "tests/system/test_shop.py::test_the_proof_holds"
    ),
    **{
        f"tests/servers/{test}": (
            "tests/servers/together/test_under_load.py::test_all_of_it_is_proven"
        )
        for test in (
            (
                "rabbitmq/test_conformance.py::TestConformance"
                "::test_every_permitted_use_works_and_every_attack_holds"
            ),
            "postgresql/test_sabotage.py::test_every_probe_holds_on_the_database_as_it_is_applied",
            "postgresql/test_newer.py::test_every_probe_holds",
            "nats/test_shared.py::test_all_probes_hold_with_buckets_and_wildcards[old]",
        )
    },
    **{
        "tests/servers/rabbitmq/test_conformance.py::TestConformance"
        "::test_a_weakened_server_turns_exactly_these_probes_red"
        f"[{weakening}]": "the other weakenings"
        for weakening in (
            "configure",
            "write, also with a line end",
            "write, for whoever may write nothing",
            "other virtual hosts",
        )
    },
    "tests/servers/rabbitmq/test_memory.py"
    "::test_who_holds_the_brokers_memory_is_shown_out[transaction]": ("… [transactions]"),
    **{
        "tests/servers/together/test_under_load.py"
        f"::test_a_revoked_service_is_cut_at_once[{server}]": ("… [orders-db]")
        for server in ("events", "jobs")
    },
    "tests/servers/test_write_a_server.py::test_who_is_revoked_is_out_until_restored": (
        "tests/system/test_shop.py::test_revocation_ends_live_sessions_at_once"
    ),
    "tests/servers/together/test_revoked_server.py::test_a_server_is_revoked_and_trusted_again"
    "[postgresql]": "… [nats]",
    "tests/servers/together/test_under_load.py"
    "::test_every_key_is_replaced_under_load_and_nothing_is_lost"
    "[jobs]": "tests/sdk/test_rabbitmq.py::test_rotation_under_load_loses_nothing",
    "tests/servers/rabbitmq/test_grant.py"
    "::test_a_broker_that_cannot_hold_routing_keys_is_given_nothing": (
        "test_a_broker_of_others_is_given_what_channels_grant_and_nothing_else"
    ),
    "tests/servers/rabbitmq/test_guard.py::test_what_it_was_started_with_by_hand_is_taken_back": (
        "test_a_file_that_is_changed_by_hand_is_never_in_force"
    ),
    "tests/servers/rabbitmq/test_memory.py::test_another_budget_is_another_watermark": (
        "test_who_holds_the_brokers_memory_is_shown_out"
    ),
    "tests/servers/rabbitmq/test_memory.py"
    "::test_without_the_guard_whoever_vanishes_keeps_the_memory": (
        "test_who_took_the_memory_and_vanished_is_forgotten"
    ),
    "tests/servers/rabbitmq/test_deep.py"
    "::test_no_message_is_lost_and_none_comes_that_no_grant_explains": (
        "test_nothing_is_done_that_no_grant_names"
    ),
    "tests/servers/rabbitmq/test_conformance.py::TestConformance::test_passwords_are_found": (
        "the other weakenings"
    ),
    "tests/servers/kafka/test_conformance.py::TestConformance"
    "::test_every_permitted_use_works_and_every_attack_holds": (
        "tests/servers/kafka/test_sabotage.py::test_as_declared_all_is_held"
    ),
    "tests/servers/nats/test_conformance.py::test_all_probes_hold_on_an_older_server": (
        "TestConformance::test_every_permitted_use_works_and_every_attack_holds"
    ),
}
"""How a test's id begins → what tries its kind in less time."""
AS_ROOT = (
    "tests/system/test_shop.py::test_the_proof_holds[no-root",
    "tests/runtime/test_rootless.py::test_the_same_without_root[test_control_dies]",
    *(
        f"tests/system/test_without_control.py::{test}[False"
        for test in (
            "test_every_command_says_what_still_runs_and_down_ends_it",
            "test_the_port_of_an_earlier_run_is_told_with_a_command_that_ends_it",
            "test_an_earlier_run_in_another_place_is_refused_and_ended",
            "test_no_second_control_process_beside_one_whose_lock_was_removed",
            "test_another_file_of_the_folder_takes_over_the_same_system",
            "test_what_nothing_is_known_of_is_swept_away_by_up",
            "test_a_copy_of_the_folder_leaves_the_original_alone",
            "test_two_that_stop_it_at_once_both_succeed",
            "test_who_stops_waiting_leaves_nothing",
            "test_down_ends_what_is_coming_up",
        )
    ),
)
"""Without root, what root runs beside it with root."""


def is_exhaustive(nodeid: str) -> bool:
    """Whether `make test` leaves it to `make test-all`."""
    return nodeid.startswith(beginnings())


@functools.cache
def beginnings() -> tuple[str, ...]:
    """Of the ids of all that is left out, for whoever runs the tests."""
    return (*CASES, *(AS_ROOT if os.geteuid() == 0 else ()))
