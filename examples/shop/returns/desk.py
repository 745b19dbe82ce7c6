"""The shop's returns desk: every few seconds somebody brings something back."""

import itertools
import time

from database import connected

PAUSE_SECONDS = 3
WHY = ("It is broken.", "It is the wrong colour.", "It came twice.")

for number in itertools.count():
    with connected() as database, database.cursor() as cursor:
        cursor.execute(
            "INSERT INTO returns (worth, why) VALUES (9.90, %s)", [WHY[number % len(WHY)]]
        )
    print("desk: written down", flush=True)
    time.sleep(PAUSE_SECONDS)
