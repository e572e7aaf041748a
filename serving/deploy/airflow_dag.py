"""The night as an Airflow DAG: the data interval's end is the instant, so that a run again is the same run."""

from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

CONFIG = "/srv/acme/tenure.toml"

with DAG("tenure", schedule="0 4 * * *", start_date=datetime(2026, 1, 1), catchup=False, max_active_runs=1):
    BashOperator(
        task_id="run",
        bash_command=f"tenure run --as-of {{{{ data_interval_end | ds }}}} --config {CONFIG}",
        # 65 (data) and 78 (configuration or model) do not pass by themselves: a person has to look.
        retries=3,
        retry_delay=timedelta(minutes=10),
    )
