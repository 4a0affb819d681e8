"""The same retrain by the embedded runner and on Airflow: how long, and how much memory."""
