"""How many different things there were, in bounded memory."""

import heapq

import xxhash

_SIZE = 4096


class Distinct:
    """Counts different texts: exactly below 4,096 of them, then by the spacing of the smallest hashes, within 3 %.

    K minimum values (Bar-Yossef et al. 2002): if the K-th smallest of the hashes, spread evenly over [0, 1), is h,
    there were about (K - 1) / h of them.

    Attributes:
        total: number of texts, copies counted.
    """

    def __init__(self) -> None:
        self.total = 0
        self._kept: set[int] = set()
        self._largest: list[int] = []  # the kept ones, negative, as a heap

    def add(self, text: str) -> None:
        """Count a text."""
        self.total += 1
        value = xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))
        if value in self._kept or (len(self._largest) == _SIZE and value > -self._largest[0]):
            return
        self._kept.add(value)
        heapq.heappush(self._largest, -value)
        if len(self._largest) > _SIZE:
            self._kept.discard(-heapq.heappop(self._largest))

    @property
    def copies_share(self) -> float:
        """Share of the texts that had been seen before; 0 where there were none."""
        num_kept = len(self._largest)
        different = num_kept if num_kept < _SIZE else (_SIZE - 1) * 2**64 / -self._largest[0]
        return max(0.0, 1 - different / self.total) if self.total else 0.0
