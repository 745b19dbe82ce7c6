"""The shop's moderator: reads what was written last."""

import time

from database import DATABASE, reviews

PAUSE_SECONDS = 3

while True:
    with reviews() as client:
        found = list(client[DATABASE].reviews.find({"stars": {"$lt": 2}}, {"sku": 1}))
    if found:
        print(f"moderator: {len(found)} to look at, the last of a {found[-1]['sku']}", flush=True)
    time.sleep(PAUSE_SECONDS)
