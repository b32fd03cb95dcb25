"""The page: one tab for each part of the work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from rvc_lightning.app.tabs.convert import ConvertTab
from rvc_lightning.app.tabs.create import CreateTab
from rvc_lightning.app.tabs.datasets import DatasetsTab
from rvc_lightning.app.tabs.judge import JudgeTab
from rvc_lightning.app.tabs.live import add_live
from rvc_lightning.app.tabs.train import TrainTab
from rvc_lightning.app.tabs.voices import VoicesTab
from rvc_lightning.app.tabs.workplace import QUIET, Workplace

TABS = ("convert", "live", "create", "datasets", "train", "voices", "judge")
"""Names of the tabs, in their order."""


class Page:
    """The components of the page and their events."""

    convert: ConvertTab
    create: CreateTab
    datasets: DatasetsTab
    train: TrainTab
    voices: VoicesTab
    judge: JudgeTab

    def __init__(self, make_workplace: Callable[[gr.Blocks], Workplace]) -> None:
        """Create the page; `make_workplace` gets the blocks of the page."""
        with gr.Blocks(title="rvc_lightning", analytics_enabled=False, fill_width=True) as self.blocks:
            workplace = make_workplace(self.blocks)
            text = workplace.text
            gr.Markdown(f"# {text('title')}")
            tabs = []
            with gr.Tabs() as opened:
                for name in TABS:
                    with gr.Tab(text(f"{name}.tab"), id=name, elem_id=f"{name}_tab") as tab:
                        setattr(self, name, _BUILDERS[name](workplace, tab))
                    tabs.append(tab)
            self._run_timers(tabs)
            trained = self.train.trained
            trained.convert.click(
                lambda name: (gr.Tabs(selected="convert"), self.convert.choose(name)),
                trained.voice,
                [opened, self.convert.voice],
                **QUIET,
            )
        # Without a size: the line of the service counts conversions, and Gradio would count page loads as well.
        self.blocks.queue(default_concurrency_limit=4, api_open=False)

    def _run_timers(self, tabs: list[gr.Tab]) -> None:
        """Refresh the progress of jobs in the open tab only."""
        timers = {name: getattr(self, name).jobs.timer for name in TABS if hasattr(getattr(self, name), "jobs")}
        for name, tab in zip(TABS, tabs, strict=True):
            tab.select(
                lambda name=name: [gr.update(active=other == name) for other in timers],
                None,
                list(timers.values()),
                **QUIET,
            )


_BUILDERS: dict[str, Callable[[Workplace, gr.Tab], Any]] = {
    "convert": ConvertTab,
    "live": add_live,
    "create": CreateTab,
    "datasets": DatasetsTab,
    "train": TrainTab,
    "voices": VoicesTab,
    "judge": JudgeTab,
}
