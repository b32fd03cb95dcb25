"""How good a voice is: measures of what it makes, and the report of them."""

from rvc_lightning.evaluation.compare import Comparison, compare, log_mel, render_table

__all__ = ["Comparison", "compare", "log_mel", "render_table"]
