"""The shop's critic: says, every few seconds, what he thinks of something."""

import itertools
import time

from database import DATABASE, reviews

PAUSE_SECONDS = 3
SKUS = ("teapot", "kettle", "cup")

for number in itertools.count():
    with reviews() as client:
        client[DATABASE].reviews.insert_one({"sku": SKUS[number % len(SKUS)], "stars": number % 6})
    print(f"critic: written {number + 1}", flush=True)
    time.sleep(PAUSE_SECONDS)
