"""The project in Label Studio: its labelling interface, made once, found again, and kept up to date."""

from __future__ import annotations

import html
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud.datasets.classes import canonical
from cloud.datasets.files import write_file
from cloud.labeling.label_studio.client import LabelStudioClient, NotThereError
from cloud.labeling.service import LabelServiceError

# Names of the controls in an interface of our making.
PICTURE, OBJECTS = "picture", "objects"
IMAGE_FIELD = "image"  # of a task's data
MEMORY = "label-studio.json"
PAGE = 100
INSTRUCTIONS = (
    "One upright box around the visible part of each object, also of those that are cut off by the edge. "
    "The boxes that are there are the model's: correct them, remove those of nothing, add what is missing. "
    "Skip a picture that nobody can label: it is not trained on."
)
# Okabe and Ito, Color Universal Design, 2008: told apart by colour-blind people too.
_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999")
_HOTKEYS = "1234567890"

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a project must be.

    Attributes:
        title: it is found by, where nothing is remembered of it.
        class_names: what boxes may be of, canonical.
        attributes: what is chosen for a whole picture, name to values.
        required: the one of them without which nothing can be handed in; empty: none.
    """

    title: str
    class_names: tuple[str, ...]
    attributes: Mapping[str, Sequence[str]]
    required: str = ""


@dataclass(frozen=True, slots=True)
class Project:
    """A project as it is.

    Attributes:
        id: its number there.
        picture, objects: names of the controls for the picture and for the boxes.
        labels: canonical class name to the label as it is spelled there.
        model_version: whose boxes the interface begins with; empty: nobody's.
        address: its page, for people.
    """

    id: int
    picture: str
    objects: str
    labels: Mapping[str, str]
    model_version: str
    address: str


def ensure_project(client: LabelStudioClient, wish: Wish, work: Path) -> Project:
    """Find the project, or make it; give it the classes and attributes that it lacks.

    Args:
        client: of the server.
        wish: what it must be.
        work: a folder that remembers which it was: one that was deleted is not made anew in silence.

    Raises:
        LabelServiceError: it was deleted, several have its title, or it is another kind of project.
    """
    memory = work / MEMORY
    found = _remembered(client, wish, memory) or _by_title(client, wish) or _make(client, wish)
    project_id = int(found["id"])
    write_file(memory, json.dumps({"url": client.url, "title": wish.title, "project": project_id}))
    return _fitted(client, found, wish)


def labeling_interface(
    class_names: Sequence[str], attributes: Mapping[str, Sequence[str]], required: str
) -> str:
    """Write the interface's XML: boxes of the classes on a picture, and choices for the whole of it."""
    lines = [
        "<View>",
        f'  <Image name="{PICTURE}" value="${IMAGE_FIELD}" zoom="true" zoomControl="true"'
        ' brightnessControl="true" contrastControl="true" rotateControl="false"/>',
        f'  <RectangleLabels name="{OBJECTS}" toName="{PICTURE}" canRotate="false" strokeWidth="2">',
    ]
    for number, name in enumerate(class_names):
        hotkey = f' hotkey="{_HOTKEYS[number]}"' if number < len(_HOTKEYS) else ""
        colour = _COLOURS[number % len(_COLOURS)]
        lines.append(f'    <Label value="{html.escape(name)}" background="{colour}"{hotkey}/>')
    lines.append("  </RectangleLabels>")
    for name, values in attributes.items():
        needed = ' required="true"' if name == required else ""
        lines.append(f'  <Header value="{html.escape(name)}" size="5"/>')
        lines.append(
            f'  <Choices name="{html.escape(name)}" toName="{PICTURE}" choice="single-radio"'
            f' showInline="true"{needed}>'
        )
        lines += [f'    <Choice value="{html.escape(value)}"/>' for value in values]
        lines.append("  </Choices>")
    return "\n".join([*lines, "</View>"])


def _remembered(client: LabelStudioClient, wish: Wish, memory: Path) -> dict[str, Any] | None:
    try:
        kept = json.loads(memory.read_text())
        known = kept["url"] == client.url and kept["title"] == wish.title
        project_id = int(kept["project"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not known:
        return None
    try:
        found: dict[str, Any] = client.get(f"/api/projects/{project_id}/")
    except NotThereError:
        raise LabelServiceError(
            f"the project {project_id}, {wish.title!r}, of Label Studio at {client.url} was deleted, or is "
            f"hidden from the token's user: give that user access; or remove {str(memory)!r}, and a new one "
            "is made (labels that were not fetched yet are lost)"
        ) from None
    return found


def _by_title(client: LabelStudioClient, wish: Wish) -> dict[str, Any] | None:
    found = [int(each["id"]) for each in _projects(client) if each.get("title") == wish.title]
    if len(found) > 1:
        raise LabelServiceError(
            f"several projects of Label Studio at {client.url} are called {wish.title!r} ({_listed(found)}): "
            "rename all but one, or set labels.label_studio.project to another title"
        )
    if not found:
        return None
    project: dict[str, Any] = client.get(f"/api/projects/{found[0]}/")
    return project


def _projects(client: LabelStudioClient) -> Iterable[dict[str, Any]]:
    page = 1
    while True:
        answer = client.get("/api/projects/", {"page": page, "page_size": PAGE, "include": "id,title"})
        yield from answer["results"]
        if not answer.get("next"):
            return
        page += 1


def _make(client: LabelStudioClient, wish: Wish) -> dict[str, Any]:
    body = {
        "title": wish.title,
        "description": "Pictures that vehicles sent because they matter, for the next retrain.",
        "label_config": labeling_interface(wish.class_names, wish.attributes, wish.required),
        "expert_instruction": INSTRUCTIONS,
        "show_instruction": True,
        "show_collab_predictions": True,
        "enable_empty_annotation": True,
        "show_skip_button": True,
        "maximum_annotations": 1,
    }
    project: dict[str, Any] = client.post("/api/projects/", body)
    _LOG.info("Label Studio: made the project %s at %s/projects/%s", wish.title, client.url, project["id"])
    return project


def _fitted(client: LabelStudioClient, found: dict[str, Any], wish: Wish) -> Project:
    project = _read(client, found)
    lacks = [name for name in wish.class_names if name not in project.labels]
    controls: Mapping[str, Any] = found.get("parsed_label_config") or {}
    ours = (project.objects, project.picture) == (OBJECTS, PICTURE)
    if lacks and not ours:
        raise LabelServiceError(
            f"the project at {project.address} has no label {_listed(map(repr, lacks))}: add it there under "
            "Settings, Labeling Interface, or set labels.label_studio.project to another title"
        )
    if ours and (lacks or any(name not in controls for name in wish.attributes)):
        classes = [*project.labels.values(), *lacks]
        choices = {
            name: [str(value) for value in control.get("labels") or ()]
            for name, control in controls.items()
            if control.get("type") == "Choices"
        }
        interface = labeling_interface(classes, {**choices, **wish.attributes}, wish.required)
        client.patch(f"/api/projects/{project.id}/", {"label_config": interface})
        _LOG.info("Label Studio: gave the project at %s the classes or choices it lacked", project.address)
        found = client.get(f"/api/projects/{project.id}/")
        project = _read(client, found)
    return project


def _read(client: LabelStudioClient, found: Mapping[str, Any]) -> Project:
    address = f"{client.url}/projects/{found['id']}/data"
    controls: Mapping[str, Any] = found.get("parsed_label_config") or {}
    for name, control in controls.items():
        inputs = control.get("inputs") or [{}]
        if control.get("type") == "RectangleLabels" and inputs[0].get("type") == "Image":
            if inputs[0].get("value") != IMAGE_FIELD:
                break
            labels = {canonical(str(label)): str(label) for label in control.get("labels") or ()}
            version = str(found.get("model_version") or "")
            return Project(int(found["id"]), str(control["to_name"][0]), str(name), labels, version, address)
    raise LabelServiceError(
        f"the project at {address} is not one for boxes on pictures: its interface needs "
        f'RectangleLabels on an Image with value="${IMAGE_FIELD}"; set labels.label_studio.project to another'
        " title, and a project of that name is made"
    )


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
