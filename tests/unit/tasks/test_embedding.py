"""Sentence vectors: losses against slow loops, windows, what a file is, scores, and the warning of untuned models."""

import json
import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tiny
from unmask import storage
from unmask.certify import certify
from unmask.checkpoint import load_model
from unmask.data.batching import Features, pack
from unmask.data.rows import Table, read_table
from unmask.engine.choice import runs
from unmask.errors import DataError, UsageError
from unmask.model.layout import Layout
from unmask.predict import Predictor, build_task
from unmask.tasks.base import Row
from unmask.tasks.embedding import Embedding
from unmask.tasks.vector_reader import EmbeddingSettings, TextVectors
from unmask.train.finetune import finetune

TRIPLETS = [
    {"text": tiny.GOOD[0], "pair": tiny.GOOD[1], "negative": tiny.BAD[0]},
    {"text": tiny.GOOD[2], "pair": tiny.GOOD[3], "negative": tiny.BAD[1]},
    {"text": tiny.GOOD[0], "pair": tiny.BAD[2], "negative": tiny.GOOD[1]},  # text and negative stand in row 1 too
    {"text": tiny.BAD[2], "pair": tiny.BAD[3], "negative": tiny.BAD[2] + " of rain"},  # its text is the pair of row 3
]
LONG = " ".join([*tiny.GOOD, *tiny.BAD] * 4)
FORWARD_TOLERANCE = 1e-5


def make(changes: dict[str, object] | None = None, **settings: object) -> Embedding:
    task = Embedding(tiny.config(**(changes or {})), tiny.tokenizer(), EmbeddingSettings(**settings))
    task.init_weights(0)
    with torch.no_grad():  # rows further apart than those of a fresh network
        task.encoder.embeddings.word.weight.mul_(20)
    return task


def vectors_of(task: Embedding, texts: list[str]) -> list[list[float]]:
    return [one.vector for one in Predictor(task)(texts)]


@torch.no_grad()
def loss_of(task: Embedding, rows: list[Row]) -> float:
    return float(task.loss(task(batch := task.collate(task.encode(rows, is_training=True))), batch))


def cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


MORE = [[tiny.BAD[3], "x"], [], [tiny.GOOD[3]], ["a bore"]]


@pytest.mark.parametrize("negatives", [(), ("negative",), ("negative", "more"), ("more",)])
def test_info_nce_equals_a_slow_loop(negatives: tuple[str, ...]) -> None:
    """Also where a row has none, one or several texts that mean something else."""
    task = make(pair_column="pair", negative_columns=negatives, temperature=0.2).eval()
    triplets = [{**row, "more": more} for row, more in zip(TRIPLETS, MORE, strict=True)]
    wrong_of = [[row["negative"]] * ("negative" in negatives) + row["more"] * ("more" in negatives) for row in triplets]
    texts = {text for row in TRIPLETS for text in row.values()} | {text for texts in MORE for text in texts}
    known = {text: vectors_of(task, [text])[0] for text in texts}
    total = 0.0
    for row in TRIPLETS:
        right = math.exp(cosine(known[row["text"]], known[row["pair"]]) / 0.2)
        others = [other["pair"] for other in TRIPLETS if other["text"] != row["text"]]  # else another right answer
        others += [text for texts in wrong_of for text in texts]
        others = [text for text in others if text not in (row["text"], row["pair"])]
        wrong = sum(math.exp(cosine(known[row["text"]], known[text]) / 0.2) for text in others)
        total -= math.log(right / (right + wrong))
    assert loss_of(task, triplets) == pytest.approx(total, rel=1e-4)


def test_scored_pairs_are_a_regression_of_the_cosine() -> None:
    task = make(pair_column="pair", label_column="score", score_range=(1.0, 5.0)).eval()
    rows = [{**row, "score": score} for row, score in zip(TRIPLETS, ("1", "5", "2.5", "4"), strict=True)]
    total = 0.0
    for row in rows:
        first, second = vectors_of(task, [row["text"], row["pair"]])
        total += (cosine(first, second) - (float(row["score"]) - 1) / 4) ** 2
    assert loss_of(task, rows) == pytest.approx(total, rel=1e-4)


def test_rows_in_several_windows_have_the_loss_of_their_merged_vectors() -> None:
    rows = [*TRIPLETS[:2], {"text": LONG, "pair": LONG[::-1]}]
    task = make(pair_column="pair", temperature=0.2).eval()
    known = {text: vectors_of(task, [text])[0] for row in rows for text in (row["text"], row["pair"])}
    total = 0.0
    for row in rows:
        terms = {other["pair"]: math.exp(cosine(known[row["text"]], known[other["pair"]]) / 0.2) for other in rows}
        total -= math.log(terms[row["pair"]] / sum(terms.values()))
    assert loss_of(task, rows) == pytest.approx(total, rel=1e-4)


def test_a_long_text_is_the_mean_of_its_windows_weighted_by_their_tokens() -> None:
    task = make(normalize=False, stride=20).eval()
    pieces = tiny.tokenizer().encode([LONG])[0]
    room = task.config.max_length - 2
    total, weight, start = np.zeros(32), 0, 0
    while True:
        ids = [0, *pieces.ids[start : start + room].tolist(), 2]
        hidden = task.encoder.hidden_states(*_alone(ids, task))[-1]
        total, weight = total + hidden.sum(dim=0).detach().numpy(), weight + len(ids)
        if start + room >= len(pieces.ids):
            break
        start += 20
    assert start >= 40, "at least three windows"
    (answer,) = Predictor(task)([LONG])
    np.testing.assert_allclose(answer.vector, total / weight, atol=FORWARD_TOLERANCE)
    assert answer.truncated_share == 0
    (cut,) = Predictor(make(normalize=False, long_texts="cut"))([LONG])
    assert cut.truncated_share > 0.5


def test_a_text_alone_has_the_vector_that_it_has_among_others() -> None:
    task = make(layers=(1, 2))
    texts = [*tiny.GOOD, LONG, *tiny.BAD, "x"]
    together = vectors_of(task, texts)
    for text, vector in zip(texts, together, strict=True):
        np.testing.assert_allclose(vectors_of(task, [text])[0], vector, atol=FORWARD_TOLERANCE)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_simcse_has_each_text_twice_and_needs_dropout() -> None:
    rows = [{"text": text} for text in (*tiny.GOOD, *tiny.BAD)]
    task = make()
    assert task.encoder.dropout == 0.1, "the tiny network has none of its own"
    batch = task.collate(task.encode(rows, is_training=True))
    vectors = task.train()(batch)
    assert len(vectors) == 16
    assert not torch.allclose(vectors[0], vectors[1])
    assert torch.allclose(*task.eval()(batch)[:2])
    still = make(dropout=0.0).train()
    with pytest.raises(UsageError, match="differ by their dropout"):
        still.loss(still(batch), batch)
    still.encoder.set_attention_dropout(0.1)
    still.loss(still(batch), batch)


def test_simcse_is_scored_by_alignment_and_uniformity() -> None:
    rows = [{"text": text} for text in (*tiny.GOOD, *tiny.BAD)]
    task = make()
    answers = Predictor(task).predict_rows(rows, is_labelled=True)
    again = Predictor(task).predict_rows(rows, is_labelled=True)
    assert answers == again, "the same dropout each time"
    assert vectors_of(task, [tiny.GOOD[0]])[0] == pytest.approx(answers[0].vector, abs=1e-6), "without dropout"
    scores = task.score(answers, rows)
    firsts, seconds = (np.array([getattr(one, name) for one in answers]) for name in ("vector", "pair"))
    assert scores["alignment"] == pytest.approx(((firsts - seconds) ** 2).sum(axis=1).mean(), rel=1e-3)
    assert scores["alignment"] > 0.001
    squares = [((firsts[a] - firsts[b]) ** 2).sum() for a in range(8) for b in range(8) if a != b]
    assert scores["uniformity"] == pytest.approx(math.log(np.mean(np.exp(-2 * np.array(squares)))), rel=1e-3)
    assert scores[task.main_metric] == pytest.approx(-scores["alignment"] - scores["uniformity"])


@pytest.mark.skipif(not runs("native", "float32", make().config), reason="the kernels do not run here")
def test_simcse_is_not_scored_by_an_engine_without_dropout(tmp_path: Path) -> None:
    task = make()
    rows: list[Row] = [{"text": text} for text in (*tiny.GOOD, *tiny.BAD)]
    folder = tiny.saved(task, tmp_path / "model")
    plain, native = (Predictor.load(folder, engine=engine) for engine in ("torch", "native"))
    assert plain.predict_rows(rows, is_labelled=True) == Predictor(task).predict_rows(rows, is_labelled=True)
    with pytest.raises(UsageError, match="differ by their dropout"):
        native.predict_rows(rows, is_labelled=True)
    assert native.predict_rows(rows)[0].vector == pytest.approx(plain.predict_rows(rows)[0].vector, abs=1e-5)
    with pytest.raises(UsageError, match="passes with dropout"):
        certify(task, Table(tmp_path / "texts.txt", ("text",), rows, list(range(1, 9))), ["int8"])


def test_pairs_are_scored_by_retrieval_among_different_texts() -> None:
    task = make(pair_column="pair", negative_columns=("negative",))
    lists: list[Row] = [{**row, "negative": [row["negative"], *more]} for row, more in zip(TRIPLETS, MORE, strict=True)]
    rows = [*lists, {"text": "a bore", "pair": tiny.GOOD[1], "negative": "x"}]
    answers = Predictor(task).predict_rows(rows, is_labelled=True)
    known = {row["pair"]: one.pair for row, one in zip(rows, answers, strict=True)}
    for row, one in zip(rows, answers, strict=True):
        texts = row["negative"] if isinstance(row["negative"], list) else [row["negative"]]
        known |= dict(zip(texts, one.negatives, strict=True))
    ranks, triplets = [], []
    for row, one in zip(rows, answers, strict=True):
        own = cosine(one.vector, known[row["pair"]])
        right = {other["pair"] for other in rows if other["text"] == row["text"]}
        ranks.append(1 + sum(cosine(one.vector, vector) > own for text, vector in known.items() if text not in right))
        triplets += [own > cosine(one.vector, negative) for negative in one.negatives]
    scores = task.score(answers, rows)
    assert scores["mrr"] == pytest.approx(np.mean([1 / rank for rank in ranks]))
    assert scores["recall_at_1"] == np.mean([rank == 1 for rank in ranks])
    assert scores["triplet_accuracy"] == np.mean(triplets)
    assert scores["candidates"] == len(known)
    assert task.row_scores(answers, rows) == pytest.approx([1 / rank for rank in ranks])
    wrong = task.mistakes(answers, rows)
    assert len(wrong) == sum(rank > 1 for rank in ranks)
    assert all(one.answer != one.label for one in wrong)


def test_a_model_of_pairs_answers_for_one_text_and_gives_the_similarity_of_two() -> None:
    task = make(pair_column="pair")
    single, double = Predictor(task).predict_rows([{"text": "a"}, {"text": "a", "pair": "b c"}])
    assert single.similarity is single.pair is None
    assert double.similarity == pytest.approx(cosine(double.vector, double.pair))
    assert double.summary() == f"{double.similarity:.4f}"
    assert len(single.summary().split()) == 32


@pytest.mark.parametrize(
    ("header", "named", "want"),
    [
        ("anchor\tpositive\tnegative", {}, {"text_column": "anchor", "pair_column": "positive"}),
        ("sent0\tsent1\thard_neg", {}, {"negative_columns": ("hard_neg",), "label_column": None}),
        ("query\tpositive\tnegative_1\tnegative_2", {}, {"negative_columns": ("negative_1", "negative_2")}),
        (
            "a\tb\tc\td",
            {"text_column": "b", "pair_column": "a", "negative_columns": "c,d"},
            {"negative_columns": ("c", "d")},
        ),
        ("sentence1\tsentence2\tscore", {}, {"label_column": "score", "score_range": (0.0, 3.0)}),
        ("a\tb\tc", {"text_column": "b", "pair_column": "a"}, {"text_column": "b", "label_column": None}),
        ("a\tb\tscore", {"text_column": "b", "pair_column": "a"}, {"label_column": None}),
        ("a\tb\tc", {"text_column": "b", "pair_column": "a", "label_column": "c"}, {"score_range": (0.0, 3.0)}),
        ("id\ttext\tx", {}, {"text_column": "text", "pair_column": None}),
        ("premise\thypothesis\tsimilarity", {"score_range": "1,3"}, {"score_range": (1.0, 3.0)}),
    ],
)
def test_a_file_says_what_it_is(tmp_path: Path, header: str, named: dict, want: dict) -> None:
    path = tmp_path / "rows.tsv"
    rows = (header.split("\t"), ["one text", "another", "1", "5"], ["third", "fourth", "3", "7"])
    path.write_text("".join("\t".join(row[: len(rows[0])]) + "\n" for row in rows))
    understood = Embedding.understand(read_table(path), named)
    settings = EmbeddingSettings(**understood.settings)
    assert {name: getattr(settings, name) for name in want} == want
    assert len(understood.notes) == 1


def test_columns_of_negatives_are_no_first_text_and_go_with_no_scores(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("a\tb\tc\tscore\nx\ty\ta much longer text\t1\nz\tw\tanother long text\t2\n")
    named = {"pair_column": "b", "negative_columns": "c"}
    assert Embedding.understand(read_table(path), named).settings["text_column"] == "a"
    with pytest.raises(DataError, match="either have scores"):
        Embedding.understand(read_table(path), named | {"label_column": "score", "text_column": "a"})
    path.write_text("sentence1\tsentence2\tscore\tneg\nx\ty\t1\tno\nz\tw\t2\tyes\n")
    assert Embedding.understand(read_table(path), {}).settings["label_column"] == "score"


@pytest.mark.parametrize(("stored", "columns"), [(None, ()), ("other", ("other",))])
def test_folders_of_one_negative_a_row_are_opened(tmp_path: Path, stored: str | None, columns: tuple[str, ...]) -> None:
    folder = tiny.saved(tiny.embedder(), tmp_path / "model")
    note = json.loads((folder / "unmask.json").read_text())
    settings = note["meta"]["task"]["settings"]
    del settings["negative_columns"]
    settings["negative_column"] = stored
    (folder / "unmask.json").write_text(json.dumps(note))
    (folder / "MANIFEST.json").unlink()
    storage.seal(folder)
    assert Predictor.load(folder).task.settings.negative_columns == columns


def test_a_score_that_is_no_number_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("sentence1\tsentence2\tscore\na\tb\t1\nc\td\tnan\n")
    with pytest.raises(DataError, match="is not a number") as caught:
        Embedding.understand(read_table(path), {})
    assert caught.value.details["place"] == f"{path}:3"


def test_any_encoder_gives_vectors_and_an_untuned_one_warns_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tiny.saved(tiny.masked_lm(), tmp_path / "lm")
    predictor = Predictor.load(folder, task="embedding")
    with caplog.at_level(logging.WARNING, "unmask"):
        predictor(["one"])
        predictor(["two"])
    assert caplog.text.count("not trained for sentence vectors") == 1
    assert "--task embedding" in caplog.text
    caplog.clear()
    tuned = tiny.saved(make(pooling="cls"), tmp_path / "tuned")
    with caplog.at_level(logging.WARNING, "unmask"):
        again = build_task(load_model(tuned))
        Predictor(again)(["one"])
    assert isinstance(again, Embedding)
    assert again.settings.pooling == "cls"
    assert not caplog.text


def test_layers_that_the_network_lacks_are_refused() -> None:
    for layers in ((3,), (-4,), ()):
        with pytest.raises(UsageError, match="no such layer"):
            make(layers=layers)
    task = make(layers=(-3, 2))
    task.settings = EmbeddingSettings(layers=(3,))  # as `unmask embed --layers 3` does
    with pytest.raises(UsageError, match="no such layer"):
        Predictor(task)(["one"])


def test_fine_tuning_on_pairs_leaves_a_folder_that_embeds(tmp_path: Path) -> None:
    rows = "".join(f"{text}\t{text[::-1]}\n" for text in (*tiny.GOOD, *tiny.BAD))
    (tmp_path / "pairs.tsv").write_text(f"anchor\tpositive\n{rows}")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    given = {"epochs": 1, "batch_size": 4, "model": sizes, "machine": {"dtype": "float32"}}
    result = finetune(tmp_path / "pairs.tsv", tmp_path / "run", task="embedding", given=(given,))
    assert result.main_metric == "mrr"
    predictor = Predictor.load(result.model)
    assert len(predictor(["a fine film"])[0].vector) == 32
    assert predictor.task.settings.text_column == "anchor"


def _alone(ids: list[int], task: Embedding) -> tuple:
    batch = pack([Features(input_ids=np.array(ids, np.int32))], position_offset=task.config.position_offset)
    return batch.input_ids, batch.position_ids, Layout.of(batch.cu_seqlens)


@pytest.mark.parametrize(("scores", "named"), [("000", {}), ("123", {"score_range": "2,2"})])
def test_a_range_of_scores_has_a_width(tmp_path: Path, scores: str, named: dict[str, str]) -> None:
    rows = "".join(f"a {score}\tb\t{score}\n" for score in scores)
    (tmp_path / "rows.tsv").write_text("sentence1\tsentence2\tscore\n" + rows)
    with pytest.raises(DataError) as caught:
        Embedding.understand(read_table(tmp_path / "rows.tsv"), named)
    assert caught.value.code == "one-score"


def test_a_stride_goes_forward() -> None:
    with pytest.raises(ValueError, match="stride"):
        EmbeddingSettings(stride=0)


def test_other_right_answers_to_a_text_are_no_mistakes() -> None:
    task = make(pair_column="pair")
    rows = [{"text": "q", "pair": "far"}, {"text": "q", "pair": "near"}, {"text": "r", "pair": "other"}]
    pairs = [[0.6, 0.8], [1.0, 0.0], [0.0, 1.0]]
    texts = [[1.0, 0.0], [1.0, 0.0], [0.6, 0.8]]
    found = [TextVectors(vector=text, pair=pair) for text, pair in zip(texts, pairs, strict=True)]
    assert task.row_scores(found, rows) == [1.0, 1.0, 0.5]  # the third one is nearer to "far"
    assert task.score(found, rows)["mrr"] == pytest.approx(2.5 / 3)
    assert [one.answer for one in task.mistakes(found, rows)] == ["far"]
