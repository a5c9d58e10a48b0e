"""Where in a corpus the tokens of a block stand: looked for, so that a batch is checked and not believed."""

from collections.abc import Sequence

import numpy as np

from unmask.data.corpus import Corpus


def locate(corpus: Corpus, runs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Find runs of tokens in a corpus.

    Each is looked for at the places of its rarest token, so that a corpus is read about twice, however many runs.

    Args:
        corpus: to be searched.
        runs: neighbouring tokens of one shard, none empty, (n,) each.

    Returns:
        For each run the tokens at which it begins, counted through all shards, ascending, (p,) int64.
    """
    found: list[list[np.ndarray]] = [[] for _ in runs]
    first = 0
    for shard in corpus.shards:
        ids = np.asarray(shard.ids)
        counts = np.bincount(ids, minlength=corpus.meta.vocab_size)
        anchors = [int(np.argmin(counts[run])) for run in runs]
        is_rare = np.zeros(len(counts), bool)
        is_rare[[run[anchor] for run, anchor in zip(runs, anchors, strict=True)]] = True
        hits = np.flatnonzero(is_rare[ids])
        tokens = ids[hits]
        for run, anchor, places in zip(runs, anchors, found, strict=True):
            places.append(first + _beginning(run, ids, hits[tokens == run[anchor]] - anchor))
        first += len(ids)
    return [np.concatenate(places) for places in found]


def _beginning(run: np.ndarray, ids: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Those of the places at which a run begins."""
    places = places[(places >= 0) & (places + len(run) <= len(ids))]
    for at, token in enumerate(run.tolist()):
        places = places[ids[places + at] == token]
    return places
