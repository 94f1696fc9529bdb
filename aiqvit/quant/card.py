"""The scheme card: what exactly is quantized, in a few lines, printed and stored with every result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from torch import nn

from aiqvit.quant.quantizers.base import Quantizer

SKIPPED = {"post_layernorm": "own ranges and their reparameterization"}  # what a role stands for besides a quantizer


def sites(model: nn.Module) -> Iterator[tuple[str, Quantizer]]:
    """Every quantizer of the model with its qualified name, in module order."""
    for name, module in model.named_modules():
        if isinstance(module, Quantizer):
            yield name, module


def scheme_card(model: nn.Module) -> list[dict]:
    """One row for all sites alike: role, kind (weight or activation), quantizer, bits, granularity, sites, note.

    A row with 0 sites is what the method would do and had to skip, because the model has no such site.
    """
    rows: Counter[tuple] = Counter()
    for _, q in sites(model):
        kind = q.site.operand
        quantizer, bits, granularity = (q.kind, q.bits, q.granularity) if q.mode == "on" else ("float", 32, "-")
        symmetric = " symmetric" if getattr(q, "symmetric", False) else ""
        rows[(q.role, kind, quantizer + symmetric, bits, granularity, q.note)] += 1
    keys = ("role", "kind", "quantizer", "bits", "granularity", "note")
    for kind, role in getattr(model, "absent_roles", ()):
        rows[(role, kind, "skipped", 32, "-", SKIPPED.get(role, ""))] = 0
    return [dict(zip(keys, row, strict=True)) | {"sites": count} for row, count in rows.items()]


def format_card(rows: list[dict]) -> str:
    """The card as text: roles that are quantized alike share a line."""
    if not rows:
        return "  nothing is quantized"
    lines: dict[tuple, list[str]] = {}
    for row in (row for row in rows if row["sites"]):
        key = (row["kind"], row["bits"], row["quantizer"], row["granularity"], row["note"])
        lines.setdefault(key, []).append(f"{row['role']} x{row['sites']}")
    skipped = [f"{row['kind']} {row['role']}" + (f" ({row['note']})" if row["note"] else "")
               for row in rows if not row["sites"]]
    last = [f"  skipped, no such site in this model: {', '.join(skipped)}"] if skipped else []
    return "\n".join([*(
        f"  {kind:<10} {bits:>2} bit {quantizer} per {granularity}{f' ({note})' if note else ''}: {', '.join(roles)}"
        for (kind, bits, quantizer, granularity, note), roles in lines.items()
    ), *last])
