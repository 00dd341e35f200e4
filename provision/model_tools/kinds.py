"""Quantisations that llama.cpp makes without an importance matrix."""

from __future__ import annotations

BITS = {
    "F32": 32.0, "F16": 16.0, "BF16": 16.0, "Q8_0": 8.5, "Q6_K": 6.6, "Q5_K_M": 5.7, "Q5_K_S": 5.5,
    "Q5_1": 6.0, "Q5_0": 5.5, "Q4_K_M": 4.85, "Q4_K_S": 4.6, "Q4_1": 5.0, "Q4_0": 4.6, "IQ4_NL": 4.6,
    "IQ4_XS": 4.3, "Q3_K_L": 4.3, "Q3_K_M": 3.9, "Q3_K_S": 3.5, "Q2_K": 3.2,
}  # fmt: skip
"""The bits of a weight in a model of 7B and more, its few larger tensors included."""

KINDS = tuple(BITS)
"""Their names, as of `KINDS` in `clawd_runtime.engine.llama.quantise`."""
