"""The shop's scales: tell, every second, what lies on each shelf."""

import itertools
import time

from broker import connected

PAUSE_SECONDS = 1
SHELVES = 3

client = connected()
client.loop_start()
for number in itertools.count():
    told = client.publish(f"shelves/{number % SHELVES}/grams", 1000 + number % 100, qos=1)
    told.wait_for_publish()
    print(f"scales: told {number + 1}", flush=True)
    time.sleep(PAUSE_SECONDS)
