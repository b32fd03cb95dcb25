"""Colours, fonts and layout of all tabs, light and dark, and names that Gradio's own controls lack."""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr

from rvc_lightning.app.texts import FOLDER, Texts

THEME = gr.themes.Default(
    primary_hue=gr.themes.colors.teal,
    neutral_hue=gr.themes.colors.slate,
    # Fonts of the system, to load nothing from other hosts.
    font=[gr.themes.Font("system-ui"), gr.themes.Font("sans-serif")],
    font_mono=[gr.themes.Font("ui-monospace"), gr.themes.Font("monospace")],
).set(
    # Contrast of at least 4.5 to 1.
    block_info_text_color="*neutral_600",
    block_info_text_color_dark="*neutral_300",
    block_title_text_color="*neutral_800",
    block_label_text_color="*neutral_700",
    block_label_text_color_dark="*neutral_200",
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_300",
    input_placeholder_color="*neutral_600",
    input_placeholder_color_dark="*neutral_300",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_800",
    button_primary_text_color="white",
    button_cancel_background_fill="#b91c1c",
    button_cancel_background_fill_hover="#991b1b",
    button_cancel_background_fill_dark="#b91c1c",
    button_cancel_background_fill_hover_dark="#991b1b",
    button_cancel_text_color="white",
    button_cancel_text_color_dark="white",
)

STYLE = """
.gradio-container { max-width: 1280px !important; width: 100%; margin: auto; }
:root, .dark { --neutral-400: var(--block-info-text-color) !important; }
/* Gradio puts the input inside a button; the button opens it. */
button input[type=file] { display: none !important; }
.options { display: grid !important; gap: 14px;
  grid-template-columns: repeat(auto-fill, minmax(min(330px, 100%), 1fr)); }
.info, .hint { color: var(--block-info-text-color); font-size: var(--block-info-text-size); }
.hint { margin: 6px 2px; }
.scroll, .facts { overflow-x: auto; }
.list { width: auto; font-size: 0.9em; border-collapse: collapse; border: none !important; }
.actions { align-items: end; } .actions > button { min-height: 42px; }
[id^=option-]:has(> .empty, :is(input, textarea):disabled) { filter: grayscale(1);
  background: var(--background-fill-secondary) !important; }
[id^=option-] :is(input, textarea):disabled { opacity: 0.5; cursor: not-allowed; }
/* The earlier message, below the progress. */
.html-container.pending { visibility: hidden; }
.prose :is(h1, h2) { margin: 8px 0 0; }
.list :is(tr, td, th) { border: none !important; }
.list :is(td, th) { padding: 3px 20px 3px 0 !important; vertical-align: top; text-align: left;
  overflow-wrap: break-word; font-weight: normal; }
.list th[scope=col] { color: var(--block-info-text-color); }
.list .brief { white-space: nowrap; }
.facts .list th[scope=row] { color: var(--block-info-text-color); min-width: 8em; }
.command { margin: 4px 2px; }
.command summary { cursor: pointer; color: var(--block-info-text-color); font-size: var(--block-info-text-size); }
.command pre, .log { white-space: pre-wrap; overflow-wrap: anywhere; padding: 8px 10px; margin: 4px 0 0;
  border-radius: var(--radius-md); background: var(--background-fill-secondary);
  border: 1px solid var(--border-color-primary); font-size: 0.85em; }
.log { max-height: 320px; overflow: auto; white-space: pre; }
.actions > * { min-width: 0; }
@media (max-width: 600px) { .actions > :not(button) { flex-basis: 100% !important; } }
input { text-overflow: ellipsis; }
.picture { width: 100%; min-width: 320px; border-radius: var(--radius-md); background: white; }
.picture.plain { background: none; }
.players { display: flex; margin-top: 8px; flex-wrap: wrap; gap: 10px 20px; }
.player { margin: 0; width: 320px; max-width: 100%; } .player audio { display: block; width: 100%; }
.download { display: inline-block; margin: 6px 2px; color: inherit; text-decoration: underline; }
.bar { height: 8px; border-radius: 4px; background: var(--border-color-primary); overflow: hidden; min-width: 80px; }
.bar div { height: 100%; background: var(--color-accent); }
iframe { width: 100%; border: none; border-radius: var(--radius-md); }
#live_page { height: 820px; color-scheme: light; }
.dark #live_page { color-scheme: dark; }
.report iframe { height: 900px; border: 1px solid var(--border-color-primary); }
.status { overflow-wrap: anywhere; padding: 10px 12px;
  border-radius: var(--radius-md); border: 1px solid var(--border-color-primary); }
.status.error { border-color: var(--error-border-color); background: var(--error-background-fill);
  color: var(--error-text-color); }
#server { position: fixed; bottom: 16px; left: 16px; right: 16px; max-width: 720px; margin: auto; z-index: 1000; }
#server button { margin-left: 8px; text-decoration: underline; }
"""


def head(text: Texts) -> str:
    """Return the elements of the head of the page."""
    script = Path(FOLDER, "page.js").read_text(encoding="utf-8")
    values = {"language": text.language, "texts": text.of_group("server")}
    return f"<script>const page = {json.dumps(values)};\n{script}</script>"
