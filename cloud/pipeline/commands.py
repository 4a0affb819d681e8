"""Other programs' command lines: git's and DVC's."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from cloud.pipeline.errors import PipelineError

_CREDENTIALS = re.compile(r"://[^/@\s]+@")


def run_command(
    words: str,
    arguments: Sequence[str],
    folder: Path,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a program and give what it printed.

    Args:
        words: for messages: what is run.
        arguments: the program and its arguments.
        folder: that it works in, which is there.
        timeout_s: it is ended after so many seconds.
        environment: in place of this process's.

    Raises:
        PipelineError: it is not installed, took too long, or failed; with what it said, without credentials.
    """
    try:
        done = subprocess.run(
            list(arguments),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=timeout_s,
            env=environment,
        )
    except FileNotFoundError:
        raise PipelineError(f"this needs {arguments[0]}, and there is none here: install it") from None
    except subprocess.TimeoutExpired:
        raise PipelineError(f"{folder}: {words} took over {timeout_s:g} s") from None
    except subprocess.CalledProcessError as error:
        raise PipelineError(f"{folder}: {words}: {_said(error.stderr)}") from None
    return done.stdout.strip()


def plain_environment(**more: str) -> dict[str, str]:
    """Give this process's environment without what steers git elsewhere, and with `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {**kept, **more}


def _said(stderr: str) -> str:
    """The errors among what it said, or all of it, in one line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return without_credentials("; ".join(errors or lines)[:1000] or "it failed without a word")


def without_credentials(text: str) -> str:
    """Give a text without the users and passwords of URLs in it."""
    return _CREDENTIALS.sub("://***@", text)
