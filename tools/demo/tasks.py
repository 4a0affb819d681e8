"""What is made in the background while the vehicle drives: commands in their order, a few at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.demo.errors import DemoError
from tools.demo.processes import Child, Children
from tools.demo.story import Story


@dataclass(frozen=True, slots=True)
class Task:
    """One command of `traffic-vision`.

    Attributes:
        name: for people, and of its log.
        arguments: of the command.
        after: names of the tasks that must be done first.
        pictures: folder that it fills, to see how far it is; and how many it will be.
    """

    name: str
    arguments: tuple[str | Path, ...]
    after: tuple[str, ...] = ()
    pictures: tuple[Path, int] | None = None


class Tasks:
    """Runs them in their order, as far as they need not wait."""

    def __init__(self, tasks: Sequence[Task], children: Children, story: Story, at_once: int) -> None:
        """With none begun.

        Args:
            tasks: the more urgent first.
            children: start them.
            story: is told how far they are.
            at_once: at most so many run at a time.
        """
        self._waiting = list(tasks)
        self._running: dict[str, tuple[Task, Child]] = {}
        self._done: set[str] = set()
        self._children = children
        self._story = story
        self._at_once = at_once

    def advance(self) -> None:
        """See what has ended, and begin what can. From the main thread.

        Raises:
            DemoError: one failed.
        """
        for name, (task, child) in list(self._running.items()):
            code = child.returncode()
            if code is None:
                self._note(task)
            elif code:
                raise DemoError(f"{name} {child.why()}")
            else:
                self._running.pop(name)
                self._done.add(name)
                self._story.tasks.pop(name, None)
                self._story.say(f"{name}: done")
        for task in list(self._waiting):
            if len(self._running) >= self._at_once:
                return
            if self._done.issuperset(task.after):
                self._waiting.remove(task)
                child = self._children.traffic_vision(task.name.replace(" ", "-"), *task.arguments)
                self._running[task.name] = task, child
                self._note(task)

    def are_done(self, *names: str) -> bool:
        """Whether these are done, or all."""
        if names:
            return self._done.issuperset(names)
        return not self._waiting and not self._running

    def _note(self, task: Task) -> None:
        done, of = 0, 0
        if task.pictures is not None:
            folder, of = task.pictures
            if folder.is_dir():
                with os.scandir(folder) as entries:
                    done = sum(1 for entry in entries if not entry.name.startswith("."))
        self._story.tasks[task.name] = done, of
