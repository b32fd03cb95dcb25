"""Objective evaluation of a voice: metrics of its conversions, and reports of them."""

from rvc_lightning.evaluation.compare import Comparison, compare, log_mel, render_table

__all__ = ["Comparison", "compare", "log_mel", "render_table"]
