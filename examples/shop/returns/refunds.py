"""The shop's refunds: adds up what is to be paid back. Why, it may not read."""

import time

from database import connected

PAUSE_SECONDS = 3

while True:
    with connected() as database, database.cursor() as cursor:
        cursor.execute("SELECT COUNT(number), COALESCE(SUM(worth), 0) FROM worth")
        count, worth = cursor.fetchone()
    if count:
        print(f"refunds: {worth} for {count} returns", flush=True)
    time.sleep(PAUSE_SECONDS)
