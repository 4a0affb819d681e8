"""`traffic-vision cloud airflow` and `cloud mlflow`: where they listen."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from tools.cli import root

# In place of Airflow: notes its settings, and ends.
AIRFLOW = """#!/bin/sh
echo "$AIRFLOW__API__HOST $AIRFLOW__API__PORT $AIRFLOW__CORE__EXECUTION_API_SERVER_URL" > "$AIRFLOW_HOME/told"
exit 3
"""


@pytest.mark.parametrize(
    ("listen", "told"),
    [
        (["--listen", "[::1]:8099"], "::1 8099 http://[::1]:8099/execution/"),
        (["--listen", "0.0.0.0:8099"], "0.0.0.0 8099 http://127.0.0.1:8099/execution/"),
        ([], "127.0.0.1 8081 http://127.0.0.1:8081/execution/"),
    ],
)
def test_airflow_listens_where_it_is_told(tmp_path: Path, listen: list[str], told: str) -> None:
    (tmp_path / "cloud.toml").write_text("")
    airflow = tmp_path / "an-airflow"
    airflow.write_text(AIRFLOW)
    airflow.chmod(0o755)
    arguments = ["cloud", "airflow", "--airflow", str(airflow), "--config", str(tmp_path / "cloud.toml")]
    result = CliRunner().invoke(root, [*arguments, *listen])
    assert "airflow db migrate failed, with 3" in str(result.exception)
    assert (tmp_path / "airflow" / "told").read_text().strip() == told


@pytest.mark.parametrize("command", [["airflow", "--airflow", "none"], ["mlflow"]])
@pytest.mark.parametrize("listen", ["8081", "127.0.0.1:", "::1:80", "127.0.0.1:70000"])
def test_what_is_no_address_is_said(tmp_path: Path, command: list[str], listen: str) -> None:
    arguments = ["cloud", *command, "--listen", listen, "--config", str(tmp_path / "cloud.toml")]
    result = CliRunner().invoke(root, arguments)
    assert result.exit_code == 2 and "expected HOST:PORT" in result.output
