"""Bits of the small tables in front of a payload, most significant first.

Numbers without a bound are written as Elias-gamma codes of n + 1 (Elias 1975): the length in unary, then the bits.
"""

from __future__ import annotations

from compression.coding.malformed import malformed

_MAX_BITS = 40  # of one number: symbols have 32 bits, their gaps 33


class BitWriter:
    def __init__(self) -> None:
        self._bits: list[str] = []

    def write(self, value: int, width: int) -> None:
        if width:
            self._bits.append(format(value, f"0{width}b"))

    def gamma(self, value: int) -> None:
        """`value` ≥ 0 in 2·⌊log₂(value + 1)⌋ + 1 bits."""
        length = (value + 1).bit_length()
        self.write(0, length - 1)
        self.write(value + 1, length)

    def signed_gamma(self, value: int) -> None:
        """0, −1, 1, −2, 2 … as 0, 1, 2, 3, 4 …"""
        self.gamma(2 * value if value >= 0 else -2 * value - 1)

    def to_bytes(self) -> bytes:
        bits = "".join(self._bits)
        return int(bits + "0" * (-len(bits) % 8), 2).to_bytes((len(bits) + 7) // 8, "big") if bits else b""


class BitReader:
    """Reads what `BitWriter` wrote. IntakeError: the payload ends too early, or a number has too many bits."""

    def __init__(self, payload: bytes, start: int = 0) -> None:
        self._payload = payload
        self._position = 8 * start

    def read(self, width: int) -> int:
        value = 0
        for position in range(self._position, self._position + width):
            if position >= 8 * len(self._payload):
                raise malformed("it ends within its table")
            value = 2 * value + (self._payload[position // 8] >> (7 - position % 8) & 1)
        self._position += width
        return value

    def gamma(self) -> int:
        zeros = 0
        while not self.read(1):
            zeros += 1
            if zeros > _MAX_BITS:
                raise malformed("a number of its table is too large")
        return (1 << zeros | self.read(zeros)) - 1

    def signed_gamma(self) -> int:
        value = self.gamma()
        return value // 2 if value % 2 == 0 else -(value + 1) // 2

    def end(self) -> int:
        """The byte after the table, whose last byte must be filled with zeros."""
        if self.read(-self._position % 8):
            raise malformed("its table is not filled with zeros")
        return self._position // 8
