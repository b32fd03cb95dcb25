"""Objects that the tabs share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr

from rvc_lightning.app import markup
from rvc_lightning.app.folders import Folders, child, prepared_datasets
from rvc_lightning.app.labels import error_of
from rvc_lightning.app.service import ConversionService
from rvc_lightning.app.texts import Texts
from rvc_lightning.cli.overrides import format_override
from rvc_lightning.cli.resume import SEARCH_PATH
from rvc_lightning.errors import ConfigurationError, RVCError
from rvc_lightning.io.names import home_path
from rvc_lightning.jobs.store import JobStore
from rvc_lightning.voice.info import VoiceInfo, as_rows

_MAX_TITLE = 40

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
"""Arguments of events without progress."""


@dataclass(frozen=True)
class Workplace:
    """Objects that the tabs share.

    Attributes:
        blocks: The page.
        service: Conversion with the voices of the page.
        jobs: Jobs of the server.
        folders: Folders of the server.
        text: Texts in the language of the page.
        is_local: Whether only this machine can reach the page, so that visitors may name any of its folders.
        links: Whether voices may be imported from links.
        config_dir: Folder of experiments of the user, as for `--config-dir`; None for none.
    """

    blocks: gr.Blocks
    service: ConversionService
    jobs: JobStore
    folders: Folders
    text: Texts
    is_local: bool
    links: bool = True
    config_dir: str | None = None

    def datasets(self) -> list[str]:
        """Return the names of the prepared datasets."""
        return prepared_datasets(self.folders.datasets)

    def check_uploads(self, files: Iterable[str | None]) -> None:
        """Raise RVCError if an upload was deleted in the meantime."""
        if not all(Path(file).is_file() for file in files if file):
            raise RVCError(self.text("common.uploads_deleted", minutes=f"{self.service.limits.keep_minutes:g}"))

    def recordings_folder(self, name: str) -> Path:
        """Return a folder of recordings by its name; on this machine, visitors may also enter a path.

        Raises:
            ConfigurationError: It does not exist, or lies outside of the folder of the recordings.
        """
        path = home_path(name)
        if not self.is_local or not path.is_absolute():
            return child(self.folders.recordings, name)
        if not path.exists():
            raise ConfigurationError(f"no such folder: '{name}'")
        return path

    def own_experiments(self) -> list[str]:
        """Return the names of the experiments of the user."""
        return sorted(path.stem for path in Path(self.config_dir or "", "experiment").glob("*.yaml") if self.config_dir)

    def search_path(self, experiment: str | None = None) -> tuple[str, ...]:
        """Return the override that lets Hydra find an experiment, None for any; none for those of the package."""
        if self.config_dir is None or (experiment is not None and experiment not in self.own_experiments()):
            return ()
        return (f"{SEARCH_PATH}[{format_override('', f'file://{Path(self.config_dir).absolute()}')[1:]}]",)


def reporting(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator for a handler of a tab: its error is shown in the component `name` of the tab, an output.

    The tab has its texts as `text`.
    """

    def decorate(handler: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(handler)
        def report(self: Any, *inputs: Any) -> Any:
            try:
                return handler(self, *inputs)
            except (RVCError, OSError) as error:
                return {getattr(self, name): error_of(error, self.text)}

        return report

    return decorate


def enable(buttons: list[gr.Button], *choices: gr.Dropdown) -> None:
    """Enable buttons while all of some dropdowns have a value."""

    def update(*chosen: Any) -> dict[Any, Any]:
        return {button: gr.update(interactive=all(chosen)) for button in buttons}

    gr.on([choice.change for choice in choices], update, [*choices], [*buttons], **QUIET)


def upload_field(label: str, elem_id: str, extensions: Collection[str] | None = None) -> gr.File:
    """Create a field for uploads of several files, of any kind or with one of the extensions."""
    file_types = None if extensions is None else sorted(extensions)
    return gr.File(
        label=label, file_count="multiple", type="filepath", file_types=file_types, height=150, elem_id=elem_id
    )


def shortened(text: str) -> str:
    """Return a text that fits into the title of a job."""
    return text if len(text) <= _MAX_TITLE else f"{text[:_MAX_TITLE]}…"


def facts_table(facts: VoiceInfo, text: Texts, hidden: Collection[str] = ()) -> str:
    """Return the table of the facts about a voice, without the hidden ones."""
    rows = [(text.get(f"facts.{name}", name), value) for name, value in as_rows(facts) if name not in hidden]
    return markup.table(rows)


def speakers_of(facts: VoiceInfo) -> list[tuple[str, int | str]]:
    """Return label and value of each speaker: the name, or the number where it is not unique; 0 for a single one."""
    names = facts.speaker_names
    unique = {number: name for number, name in enumerate(names) if name and names.count(name) == 1}
    values = unique if facts.speakers > 1 else {}
    return [(unique.get(number, str(number)), values.get(number, number)) for number in range(max(facts.speakers, 1))]


def speaker_choice(speakers: Sequence[tuple[str, int | str]], speaker: int | str | None) -> int | str:
    """Return the value, among those of `speakers_of`, of a name or number in options; the first if there is none."""
    values = [value for _, value in speakers]
    named = next((value for value in values if str(value) == str(speaker)), None)
    if named is not None:
        return named
    return values[speaker] if isinstance(speaker, int) and speaker < len(values) else values[0]
