"""The page: one tab for each part of the work."""

from __future__ import annotations

import gradio as gr

from rvc_lightning.app.service import ConversionService
from rvc_lightning.app.tabs.convert import ConvertTab
from rvc_lightning.app.tabs.live import add_live
from rvc_lightning.app.tabs.workplace import Workplace
from rvc_lightning.app.texts import Texts


class Page:
    """The components of the page and their events."""

    def __init__(self, service: ConversionService, text: Texts) -> None:
        """Create the page.

        Args:
            service: Conversion with the voices of the page.
            text: Texts in the language of the page.
        """
        with gr.Blocks(title="rvc_lightning", analytics_enabled=False, fill_width=True) as self.blocks:
            workplace = Workplace(self.blocks, service, text)
            gr.Markdown(f"# {text('title')}")
            with gr.Tab(text("convert.tab"), elem_id="convert_tab"):
                self.convert = ConvertTab(workplace)
            with gr.Tab(text("live.tab"), elem_id="live"):
                add_live()
        # Without a size: the line of the service counts conversions, and Gradio would count page loads as well.
        self.blocks.queue(default_concurrency_limit=4, api_open=False)
