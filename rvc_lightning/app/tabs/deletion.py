"""The question before something is deleted for good, and the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio.events import Dependency

from rvc_lightning.app import markup
from rvc_lightning.app.tabs.workplace import QUIET, reporting
from rvc_lightning.app.texts import Texts


class Deletion:
    """A button that asks whether to delete what is chosen, and the hidden question with its answers."""

    def __init__(self, text: Texts, name: str, button: gr.Button, message: gr.HTML) -> None:
        """Create the question in the open block.

        Args:
            text: Texts of the page.
            name: Prefix of the element ids.
            button: Asks the question.
            message: Shows the result.
        """
        self.button, self.message = button, message
        with gr.Column(visible=False, elem_id=f"{name}_question") as self.question:
            self.warning = gr.HTML(padding=False)
            with gr.Row(elem_classes="actions"):
                self.confirm = gr.Button(text("common.delete_now"), variant="stop", elem_id=f"{name}_delete_now")
                self.keep = gr.Button(text("common.keep"), elem_id=f"{name}_keep")
        self.asked = gr.State(None)
        """What the visible question is about, which may no longer be chosen."""

    def connect(
        self, chosen: gr.Dropdown, ask: Callable[[str | None], str], delete: Callable[[str], str]
    ) -> Dependency:
        """Connect the buttons.

        Args:
            chosen: What is deleted; another choice hides the question.
            ask: Returns the question about a choice, or raises RVCError if it cannot be deleted.
            delete: Deletes it, and returns a message.

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
        """Show the question about what is chosen."""
        warning = markup.status(self._ask(chosen))
        return {self.message: "", self.warning: warning, self.question: gr.update(visible=True), self.asked: chosen}

    def delete_asked(self, asked: str | None) -> dict[Any, Any]:
        """Delete what the question is about; after a second click, that is nothing."""
        return self._hide() | ({} if asked is None else self._answer(asked))

    @reporting("message")
    def _answer(self, asked: str) -> dict[Any, Any]:
        return {self.message: markup.status(self._delete(asked))}

    def _hide(self) -> dict[Any, Any]:
        return {self.question: gr.update(visible=False), self.asked: None}
