"""The tab Live: the page of `rvc_lightning.app.live` in a frame."""

from __future__ import annotations

import gradio as gr


def add_live() -> None:
    """Create the frame in the open block."""
    gr.HTML('<iframe id="live_page" src="/live/" loading="lazy" allow="microphone; autoplay" title="Live"></iframe>')
