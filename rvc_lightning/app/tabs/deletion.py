"""Confirmation of permanent deletions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio.events import Dependency

from rvc_lightning.app import markup
from rvc_lightning.app.tabs.workplace import QUIET, reporting
from rvc_lightning.app.texts import Texts


class Deletion:
    """Confirmation of a deletion: a question, hidden until a button is clicked, and the buttons to answer it."""

    def __init__(self, text: Texts, name: str, button: gr.Button, message: gr.HTML) -> None:
        """Create the question in the open block.

        Args:
            text: Texts of the page.
            name: Prefix of the element ids.
            button: Button that shows the question.
            message: Field for the result.
        """
        self.text, self.button, self.message = text, button, message
        with gr.Column(visible=False, elem_id=f"{name}_question") as self.question:
            self.warning = gr.HTML(padding=False)
            with gr.Row(elem_classes="actions"):
                self.confirm = gr.Button(text("common.delete_now"), variant="stop", elem_id=f"{name}_delete_now")
                self.keep = gr.Button(text("common.keep"), elem_id=f"{name}_keep")
        self.asked = gr.State(None)
        """Item of the visible question, which may no longer be selected."""

    def connect(
        self, chosen: gr.Dropdown | gr.State, ask: Callable[[str | None], str], delete: Callable[[str], str]
    ) -> Dependency:
        """Connect the buttons.

        Args:
            chosen: The item to delete: a dropdown, whose new selection hides the question, or a constant.
            ask: Function that returns the question for an item, or raises RVCError if the item cannot be deleted.
            delete: Function that deletes an item and returns a message.

        Returns:
            The event of the deletion.
        """
        self._ask, self._delete = ask, delete
        hidden = [self.question, self.asked]
        self.button.click(self.show_question, chosen, [self.message, self.warning, *hidden], **QUIET)
        gr.on([self.keep.click, chosen.change], self._hide, None, hidden, **QUIET)
        return self.confirm.click(self.delete_asked, self.asked, [self.message, *hidden], **QUIET)

    @reporting("message")
    def show_question(self, chosen: str | None) -> dict[Any, Any]:
        """Ask whether to delete the selected item."""
        warning = markup.status(self._ask(chosen))
        return {self.message: "", self.warning: warning, self.question: gr.update(visible=True), self.asked: chosen}

    def delete_asked(self, asked: str | None) -> dict[Any, Any]:
        """Delete the item of the question; a second click has no effect."""
        return self._hide() | ({} if asked is None else self._answer(asked))

    @reporting("message")
    def _answer(self, asked: str) -> dict[Any, Any]:
        return {self.message: markup.status(self._delete(asked))}

    def _hide(self) -> dict[Any, Any]:
        return {self.question: gr.update(visible=False), self.asked: None}
