"""Deep feature synthesis with a cutoff time, run in an environment of its own: prints its seconds as JSON."""

import json
import sys
import time

import featuretools
import pandas as pd

path, count = sys.argv[1], int(sys.argv[2])
events = pd.read_parquet(path).head(count).reset_index(names="event_id")
accounts = pd.DataFrame({"account_id": events.account_id.unique()})
entities = featuretools.EntitySet("company")
entities.add_dataframe(dataframe_name="accounts", dataframe=accounts, index="account_id")
entities.add_dataframe(dataframe_name="events", dataframe=events, index="event_id", time_index="event_at")
entities.add_relationship("accounts", "account_id", "events", "account_id")
cutoff = accounts.assign(time=events.event_at.max())
start = time.perf_counter()
featuretools.dfs(
    entityset=entities,
    target_dataframe_name="accounts",
    agg_primitives=["count", "sum", "num_unique", "mean", "time_since_last"],
    trans_primitives=[],
    cutoff_time=cutoff,
    training_window="28 days",
    max_depth=1,
)
print(json.dumps({"seconds": time.perf_counter() - start}))
