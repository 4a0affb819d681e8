"""Retrains on Apache Airflow: its DAGs, asking it by its API, and bringing it up on this machine.

Airflow has an environment of its own, and each side knows the other by commands and HTTP alone: the DAG
files in `dags/` import nothing of ours but each other, and nothing else here imports Airflow.
"""
