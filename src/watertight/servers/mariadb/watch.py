"""Ends sessions of a service that takes what all share: memory, or rows that others wait for.

No variable of MariaDB's bounds what a session keeps by ``SET @x = REPEAT('x', 16000000)`` (measured
on 10.11.19: ``max_session_mem_used`` ends other statements), and who fills the server's memory ends
it for all. But its process list tells how much each has. The server itself looks, in a block of the
operator's: to start a client for each look would take a twentieth of a core.

And whoever may read a table may lock its rows, and then do nothing for a year: a session sets each
timeout of its own. One that waits for its client while another waits for it is ended. Prepared
transactions whose session is gone are rolled back.
"""

# ruff: noqa: S608 - all that stands in a statement is a literal or an identifier, quoted

from watertight.enforcers.resource import ServerHost, ServerPlan
from watertight.servers.mariadb.compile import DatabasePlan
from watertight.servers.mariadb.session import ask, roll_back_detached

LOOK_SECONDS = 0.05
LOOKS = 200
"""In one block: when we are gone, it goes on for so long."""
LOOKS_AT_LOCKS = 20
"""So seldom it looks who waits for whom."""
IDLE_SECONDS = 10


async def watch(plan: ServerPlan, host: ServerHost) -> None:
    """Until it is cancelled. Raises WatertightError."""
    while True:
        await roll_back_detached(plan, host)
        await ask(plan, host, block(plan.grants))


def block(grants: DatabasePlan, looks: int = LOOKS) -> str:
    """Of a service that has more than its share, the session that has the most is ended.

    And whoever waits for nothing but his client, while another waits for him.
    """
    return f"""\
DELIMITER //
BEGIN NOT ATOMIC
  DECLARE looks INT DEFAULT 0;
  DECLARE CONTINUE HANDLER FOR 1094 BEGIN END;
  WHILE looks < {looks} DO
    FOR one IN (
      SELECT p.id FROM information_schema.processlist p JOIN (
        SELECT user, MAX(memory_used) AS most FROM information_schema.processlist
        WHERE host <> 'localhost' GROUP BY user HAVING SUM(memory_used) > {grants.share_bytes}
      ) big ON p.user = big.user AND p.memory_used = big.most
    ) DO
      EXECUTE IMMEDIATE CONCAT('KILL ', one.id);
    END FOR;
    IF looks MOD {LOOKS_AT_LOCKS} = 0 THEN
      FOR one IN (
        SELECT DISTINCT p.id FROM information_schema.innodb_lock_waits w
        JOIN information_schema.innodb_trx t ON t.trx_id = w.blocking_trx_id
        JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id
        WHERE p.command = 'Sleep' AND p.time_ms > {IDLE_SECONDS * 1000} AND p.host <> 'localhost'
      ) DO
        EXECUTE IMMEDIATE CONCAT('KILL ', one.id);
      END FOR;
    END IF;
    DO SLEEP({LOOK_SECONDS});
    SET looks = looks + 1;
  END WHILE;
END//
"""
