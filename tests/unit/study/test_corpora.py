"""Figures of a corpus against plain counting."""

from collections import Counter

import numpy as np

from tests.unit.study.test_batches import walk
from unmask.data.corpus import Corpus
from unmask.study.corpora import inspect_corpus
from unmask.tokenizer.load import Tokenizer


def test_figures_are_counted_right(corpora: list[Corpus]) -> None:
    corpus = corpora[1]
    tokenizer = Tokenizer.load(corpus.tokenizer_folder)
    found = inspect_corpus(corpus, tokenizer, top=5)
    tokens = walk(corpus)
    sentences, documents, words, texts = Counter(), Counter(), [], {}
    for piece, sentence, document, begins in tokens:
        sentences[sentence] += 1
        documents[document] += 1
        texts.setdefault(document, []).append(piece)
        if begins:
            words.append([])
        words[-1].append(piece)
    assert found.num_tokens == len(tokens)
    assert found.sentence_lengths.tolist() == list(sentences.values())
    assert found.document_lengths.tolist() == list(documents.values())
    assert found.duplicates == len(texts) - len(set(map(tuple, texts.values()))) == 1
    assert found.num_unused == tokenizer.vocab_size - len({piece for piece, *_ in tokens})
    assert found.cut[64] == np.mean([length > 62 for length in sentences.values()])
    pieces = Counter(tokenizer.piece(piece) for piece, *_ in tokens)
    assert [count for _, count in found.pieces] == [count for _, count in pieces.most_common(5)]
    spelled = Counter("".join(map(tokenizer.piece, word)).strip() for word in words)
    assert found.words[0][0] == spelled.most_common(1)[0][0]
    assert abs(found.words[0][1] - spelled.most_common(1)[0][1] / len(words)) < 0.01
    assert found.sources == [("1.txt", corpus.meta.sources[0].size_bytes)]


def test_examples_show_sentences_and_nothing_that_a_terminal_obeys(corpora: list[Corpus]) -> None:
    corpus = corpora[1]
    tokenizer = Tokenizer.load(corpus.tokenizer_folder)
    lines = list(inspect_corpus(corpus, tokenizer).to_lines())
    assert all(line.isprintable() for line in lines)
    first = next(line for line in lines if line.startswith("document at 0%: ")).partition(": ")[2]
    shard = corpus.shards[0]
    start, stop = shard.sentence_starts[:2].tolist()
    assert first.startswith(tokenizer.decode(shard.ids[start:stop].tolist())[:40].strip())
