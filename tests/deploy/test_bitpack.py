"""Codes in a row of bits, against a row of characters."""

import pytest
import torch

from aiqvit.deploy import bitpack

WIDTHS = range(2, 9)


def by_hand(codes: list[int], bits: int) -> list[int]:
    """The bytes, from the number whose binary digits are the codes, the first one lowest."""
    number = sum(code << i * bits for i, code in enumerate(codes))
    return list(number.to_bytes(-(-len(codes) * bits // 8), "little"))


def drawn(count: int, bits: int) -> torch.Tensor:
    return torch.randint(0, 2**bits, (count,), generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("bits", WIDTHS)
def test_bytes_are_those_of_one_long_number_and_give_the_codes_again(bits):
    for count in (0, 1, 2, 3, 5, 7, 8, 9, 64, 1001):
        codes = drawn(count, bits)
        packed = bitpack.pack(codes, bits)
        assert packed.dtype == torch.uint8 and packed.tolist() == by_hand(codes.tolist(), bits)
        assert len(packed) == bitpack.size(count, bits)
        found = bitpack.unpack(packed, bits, count)
        assert found.dtype == torch.int32 and found.tolist() == codes.tolist()


@pytest.mark.parametrize("bits", WIDTHS)
def test_every_code_at_every_place_of_a_byte(bits):
    codes = torch.arange(2**bits).repeat(8)
    assert torch.equal(bitpack.unpack(bitpack.pack(codes, bits), bits, len(codes)), codes.int())


@pytest.mark.parametrize("bits", (3, 8))
def test_runs_meet_without_a_seam(bits, monkeypatch):
    codes = drawn(1003, bits)
    whole = bitpack.pack(codes, bits)
    monkeypatch.setattr(bitpack, "RUN", 16)
    assert torch.equal(bitpack.pack(codes, bits), whole)
    assert torch.equal(bitpack.unpack(whole, bits, len(codes)), codes.int())


def test_codes_of_any_shape_type_and_stride_are_packed_in_order():
    codes = drawn(60, 5).view(3, 4, 5)
    for same in (codes.int(), codes.float(), codes.permute(2, 0, 1).contiguous().permute(1, 2, 0)):
        assert torch.equal(bitpack.pack(same, 5), bitpack.pack(codes.flatten(), 5))


@pytest.mark.parametrize("codes", ([4], [-1], [0, 1, 2, 3, 7]))
def test_codes_out_of_range_are_refused(codes):
    with pytest.raises(ValueError, match="do not fit 2 bits"):
        bitpack.pack(torch.tensor(codes), 2)


def test_another_number_of_bytes_is_refused():
    packed = bitpack.pack(drawn(10, 3), 3)
    for wrong in (packed[:-1], torch.cat([packed, packed[:1]]), packed.int(), packed[None]):
        with pytest.raises(ValueError, match="10 codes of 3 bits take 4 bytes"):
            bitpack.unpack(wrong, 3, 10)
    for bits, count in ((3, 11), (4, 10), (8, 2**40)):
        with pytest.raises(ValueError, match=f"{count} codes of {bits} bits"):
            bitpack.unpack(packed, bits, count)
