"""The tab Live: the page of `rvc_lightning.app.live` in a frame."""

from __future__ import annotations

import gradio as gr

from rvc_lightning.app import markup
from rvc_lightning.app.tabs.workplace import Workplace


def add_live(workplace: Workplace, tab: gr.Tab) -> None:
    """Create the frame in the open block."""
    title = markup.escaped(workplace.text("live.tab"))
    gr.HTML(
        f'<iframe id="live_page" src="/live/" loading="lazy" allow="microphone; autoplay" title="{title}"></iframe>'
    )
