"""Integer codes of 2 to 8 bits in a row of bytes, with no gap: code i has the bits i b to i b + b - 1, lowest first."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

RUN = 2**20  # codes at once, a multiple of 8, so that each run ends with a byte


def pack(codes: Tensor, bits: int) -> Tensor:
    """Codes 0..2^bits - 1 of any shape as uint8 (ceil(n bits / 8),). Raises `ValueError` for a code out of range."""
    flat = codes.detach().cpu().reshape(-1).to(torch.int64)
    if flat.numel() and not 0 <= int(flat.min()) <= int(flat.max()) < 2**bits:
        raise ValueError(f"codes from {int(flat.min())} to {int(flat.max())} do not fit {bits} bits")
    rows = (_bits(part.numpy().astype(np.uint8), bits) for part in flat.split(RUN))
    return torch.from_numpy(np.concatenate([np.packbits(row, bitorder="little") for row in rows]))


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """The `count` codes of `pack`, int32 (count,). Raises `ValueError` for another number of bytes than they take."""
    if packed.dtype != torch.uint8 or packed.dim() != 1 or len(packed) != size(count, bits):
        raise ValueError(f"{count} codes of {bits} bits take {size(count, bits)} bytes")
    found = torch.empty(count, dtype=torch.int32)
    weights = 1 << np.arange(bits, dtype=np.int32)
    for start in range(0, count, RUN):
        some = min(RUN, count - start)
        part = packed[start * bits // 8 :][: size(some, bits)].numpy()
        rows = np.unpackbits(part, count=some * bits, bitorder="little").reshape(some, bits)
        found[start : start + some] = torch.from_numpy(rows @ weights)
    return found


def size(count: int, bits: int) -> int:
    """Bytes that `count` codes take."""
    return -(-count * bits // 8)


def _bits(codes: np.ndarray, bits: int) -> np.ndarray:
    """(n,) to (n bits,), each 0 or 1."""
    return np.unpackbits(codes[:, None], axis=1, count=bits, bitorder="little").reshape(-1)
