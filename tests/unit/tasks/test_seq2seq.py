"""Text to text: what is read, what is learnt, what is written."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tiny
from tests.unit.tokenizer import samples
from unmask.checkpoint import load_model
from unmask.data.rows import Table
from unmask.errors import DataError, UnmaskError, UsageError
from unmask.evaluate import evaluate
from unmask.golden import make_golden, verify
from unmask.model.beam import Found
from unmask.predict import Predictor, build_task
from unmask.runtime import machine
from unmask.tasks.seq2seq import Seq2Seq
from unmask.tasks.text_columns import find_texts
from unmask.tasks.text_reader import Said, Seq2SeqSettings, TextPrediction
from unmask.tokenizer.load import Tokenizer
from unmask.train.finetune import finetune
from unmask.train.fit import Trainer
from unmask.train.settings import OptimSettings

WORDS = ("fine", "lovely", "dull", "grey", "story", "film")
STEPS = 160


def table(columns: tuple[str, ...], *rows: tuple[str, ...]) -> Table:
    made = [dict(zip(columns, row, strict=True)) for row in rows]
    return Table(Path("pairs.tsv"), columns, made, list(range(2, len(rows) + 2)))


def backwards() -> list[dict[str, str]]:
    """Pairs of words, and the same the other way round: the answer cannot be had without reading the source."""
    return [{"text": f"{a} {b}", "target": f"{b} {a}"} for a in WORDS for b in WORDS]


@pytest.fixture(scope="module")
def learnt() -> Seq2Seq:
    """Trained to turn two words round."""
    task = tiny.seq2seq(max_target_length=12, num_candidates=4)
    features = task.encode(backwards(), is_training=True)
    trainer = Trainer(task, OptimSettings(lr=5e-3), max_steps=STEPS, machine=machine("float32", "cpu"), seed=0)
    for _ in trainer.fit([task.collate(features)] for _ in range(STEPS)):
        pass
    return task.eval()


def test_it_learns_to_read_the_source(learnt: Seq2Seq) -> None:
    rows = backwards()
    answers = Predictor(learnt).predict_rows(rows, is_labelled=True)
    scores = learnt.score(answers, rows)
    assert scores["exact_match"] > 95
    assert scores["chrf"] > 95
    assert scores["nats_per_token"] < 0.2
    assert scores["token_accuracy"] > 0.95
    assert scores["perplexity"] == pytest.approx(math.exp(scores["nats_per_token"]))


def test_the_likelihood_of_a_text_is_the_same_by_both_ways(learnt: Seq2Seq) -> None:
    """What beam search says of a text, and what teacher forcing says of it as a known target."""
    rows = [{"text": "fine film"}, {"text": "a dull and lovely story"}]
    for row, answer in zip(rows, Predictor(learnt).predict_rows(rows), strict=True):
        for candidate in answer.candidates:
            (known,) = Predictor(learnt).predict_rows([row | {"target": candidate.text}], is_labelled=True)
            ids = learnt.tokenizer.encode_ids([candidate.text])[0]
            if known.num_target_tokens == len(ids) + 1 and learnt.tokenizer.decode(ids) == candidate.text:
                assert math.log(candidate.score) <= -known.target_nats / known.num_target_tokens + 1e-4
        first = answer.candidates[0]
        (known,) = Predictor(learnt).predict_rows([row | {"target": first.text}], is_labelled=True)
        assert math.log(first.score) == pytest.approx(-known.target_nats / known.num_target_tokens, abs=1e-4)
        assert known.record()["target_nats"] == known.target_nats
        assert list(answer.record()) == ["text", "score", "candidates", "truncated_share"], "no target is known"


@pytest.mark.parametrize("num_beams", [1, 4])
def test_one_beam_equals_a_search_without_caches(learnt: Seq2Seq, num_beams: int) -> None:
    """Greedy search that runs the whole network anew for every token; more beams find no less probable text."""
    task = tiny.seq2seq(max_target_length=12, num_beams=num_beams)
    task.load_state_dict(learnt.state_dict())
    task.eval()
    unwritten = [one for one in task.tokenizer.special_ids.tolist() if one != task.tokenizer.sep_id]
    texts = ["fine film", "grey poor grey", "lovely", "a bright dull day with a story"]
    for text, answer in zip(texts, Predictor(task)(texts), strict=True):
        (features,) = task.encode([{"text": text}])
        ids, total = features.target_ids.tolist(), 0.0
        while len(ids) <= 12:
            grown = type(features)(input_ids=features.input_ids, target_ids=np.array(ids, np.int32))
            with torch.no_grad():
                log_probs = task(task.collate([grown]))[0].log_softmax(-1)
            log_probs[unwritten] = -torch.inf
            token = task.tokenizer.sep_id if len(ids) == 12 else int(log_probs.argmax())
            total += float(log_probs[token])
            ids.append(token)
            if token == task.tokenizer.sep_id:
                break
        greedy = math.exp(total / (len(ids) - 1))
        if num_beams == 1:
            assert answer.text == task.tokenizer.decode(ids[1:-1]).strip()
            assert answer.score == pytest.approx(greedy, abs=1e-5)
        else:
            assert answer.score >= greedy - 1e-5


def test_a_text_is_written_alike_alone_and_among_others(learnt: Seq2Seq) -> None:
    texts = ["fine film", "a", "grey poor " * 20, "story", "a dull and lovely bright day"]
    together = Predictor(learnt)(texts)
    for text, answer in zip(texts, together, strict=True):
        (alone,) = Predictor(learnt)([text])
        assert alone.text == answer.text
        assert alone.score == pytest.approx(answer.score, abs=1e-5)


def test_a_large_batch_is_written_in_parts(learnt: Seq2Seq, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = backwards()[:7]
    whole = Predictor(learnt).predict_rows(rows, is_labelled=True)
    monkeypatch.setattr("unmask.tasks.seq2seq.MAX_SCORES", 2 * 5 * learnt.config.vocab_size)
    parts = Predictor(learnt).predict_rows(rows, is_labelled=True)
    assert [one.text for one in parts] == [one.text for one in whole]
    assert [one.target_nats for one in parts] == pytest.approx([one.target_nats for one in whole], abs=1e-4)


def test_rules_of_writing_are_kept(learnt: Seq2Seq) -> None:
    def ids(**changes: object) -> list[int]:
        task = tiny.seq2seq(**({"max_target_length": 12} | changes))
        task.load_state_dict(learnt.state_dict())
        (said,) = task.eval().answer(task.collate(asked := task.encode([{"text": "fine film"}])), asked)
        return said.found[0].ids

    assert len(ids()) < 9
    long = ids(min_length=11, num_beams=2)
    assert len(long) == 11
    assert len(set(long)) < 11
    assert len(set(ids(min_length=11, num_beams=2, no_repeat_ngram=1))) == 11
    assert len(ids(max_target_length=2)) <= 1


def test_special_pieces_are_never_written(learnt: Seq2Seq) -> None:
    task = tiny.seq2seq(max_target_length=12)
    task.load_state_dict(learnt.state_dict())
    special = task.tokenizer.special_ids.tolist()
    with torch.no_grad():
        task.head.lm.bias[[one for one in special if one != task.tokenizer.sep_id]] += 50.0
    features = task.eval().encode([{"text": "fine film"}])
    (said,) = task.answer(task.collate(features), features)
    assert all(found.ids and not set(found.ids) & set(special) for found in said.found)


def test_targets_are_read_behind_a_start_and_labelled_with_an_end(caplog: pytest.LogCaptureFixture) -> None:
    task = tiny.seq2seq(max_target_length=4)
    row = {"text": "a fine film", "target": "a joy"}
    task.encode([row | {"target": "a"}], is_training=True)
    assert not caplog.text
    (features,) = task.encode([row], is_training=True)
    target = tiny.tokenizer().encode_ids(["a joy"])[0].tolist()
    assert features.target_ids.tolist() == [0, *target][:4]
    assert features.target_labels.tolist() == [*target, 2][:4]
    assert task.encode([{"text": "a fine film"}])[0].target_ids.tolist() == [0]
    (cut,) = task.encode([row | {"target": "a joy and a wonderful story"}], is_training=True)
    whole = tiny.tokenizer().encode_ids(["a joy and a wonderful story"])[0].tolist()
    assert cut.target_labels.tolist() == whole[:4]  # an end that is not there is not learnt
    assert "1 of 1 targets are longer than max_target_length = 4" in caplog.text


def test_sources_have_a_prefix_and_a_second_text() -> None:
    task = tiny.seq2seq(source_prefix="tell: ", pair_column="pair")
    (features,) = task.encode([{"text": "a joy", "pair": "a bore", "target": "x"}], is_training=True)
    first, second = (ids.tolist() for ids in tiny.tokenizer().encode_ids(["tell: a joy", "a bore"]))
    assert features.input_ids.tolist() == [0, *first, 2, 2, *second, 2]


@pytest.mark.parametrize("target", ["", " ", "a joy", "a joy " * 40, None, ["a joy", "a bore"]])
def test_a_target_in_a_row_has_no_part_in_its_answer(learnt: Seq2Seq, target: object) -> None:
    rows = [{"text": "fine film"}, {"text": "grey"}]
    answers = Predictor(learnt).predict_rows([row | {"target": target} for row in rows])
    assert answers == Predictor(learnt).predict_rows(rows)


def test_an_evaluation_needs_its_targets(learnt: Seq2Seq) -> None:
    columns = ("text", "target")
    known = table(columns, ("fine film", "film fine"), ("grey film", "film grey"))
    assert evaluate(Predictor(learnt), known).scores["nats_per_token"] < 0.3
    with pytest.raises(DataError, match="empty") as caught:
        evaluate(Predictor(learnt), table(columns, ("fine film", "film fine"), ("grey film", "")))
    assert caught.value.details["place"] == "pairs.tsv:3"


def test_long_sources_are_cut_and_told(learnt: Seq2Seq) -> None:
    (answer,) = Predictor(learnt)(["word " * 500])
    assert 0.8 < answer.truncated_share < 1.0


def test_smoothing_is_for_training_alone() -> None:
    task = tiny.seq2seq(label_smoothing=0.2)
    batch = task.collate(task.encode(tiny.rows_of(task), is_training=True))
    task.eval()
    logits = task(batch)
    plain = task.loss(logits, batch)
    task.train()
    shares = logits.log_softmax(-1)
    true = shares.gather(1, batch.labels[:, None])[:, 0]
    smoothed = -(0.8 * true + 0.2 * shares.mean(1)).sum()
    torch.testing.assert_close(task.loss(logits, batch), smoothed)
    torch.testing.assert_close(plain, -true.sum())
    assert batch.num_targets == len(batch.target_ids)


def test_only_some_rows_are_written_in_an_evaluation(learnt: Seq2Seq) -> None:
    task = tiny.seq2seq(dev_texts=3, max_target_length=12)
    task.load_state_dict(learnt.state_dict())
    rows = backwards()[:10]
    answers = Predictor(task).predict_rows(rows, is_labelled=True)
    assert [bool(one.candidates) for one in answers] == [True] * 3 + [False] * 7
    assert all(one.target_nats > 0 for one in answers)
    assert task.score(answers, rows)["written_rows"] == 3
    assert task.row_scores(answers, rows) is None
    assert task.fit_to_dev([], [], []).settings == {"dev_texts": None}
    assert all(one.text for one in Predictor(task).predict_rows([{"text": row["text"]} for row in rows]))


def test_wrong_texts_are_shown_with_their_distance(learnt: Seq2Seq) -> None:
    rows = [{"text": "a", "target": "fine film"}, {"text": "b", "target": "fine film"}]
    (candidate,) = Predictor(learnt)(["fine film"])
    answers = [TextPrediction(text, 0.9, candidate.candidates) for text in ("fine film", "fine films")]
    (mistake,) = learnt.mistakes(answers, rows)
    assert (mistake.text, mistake.label, mistake.answer) == ("b", "fine film", "fine films")
    assert 0 < mistake.score < 0.3
    assert learnt.row_scores(answers, rows) == pytest.approx([1.0, 1 - mistake.score])
    assert answers[1].summary() == "fine films"


@pytest.mark.parametrize("changes", [{}, {"num_decoder_layers": 1}, {"share_embeddings": False}])
def test_a_folder_keeps_the_decoder(changes: dict, tmp_path: Path) -> None:
    task = tiny.seq2seq(**changes).eval()
    folder = tiny.saved(task, tmp_path / "model", golden=make_golden(task))
    again = build_task(load_model(folder))
    for name, value in task.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert verify(folder)["texts"] == 3
    model = load_model(folder, head="masked_lm")  # the encoder serves other tasks
    assert "head.dense.weight" in model.missing
    assert not any(name.startswith("head.") for name in model.state_dict)


def test_the_certificate_sees_every_kind_of_weight() -> None:
    def made() -> Seq2Seq:
        settings = Seq2SeqSettings(text_column="text")
        task = Seq2Seq(tiny.config(initializer_range=0.2), tiny.tokenizer(), settings)
        task.init_weights(0)
        return task

    golden = make_golden(made())
    for part in ("qkv", "attention_out", "cross_query", "cross_kv", "cross_out", "up", "down"):
        task = made()
        with torch.no_grad():
            weight = getattr(task.head.layers[0], part).weight
            weight[: task.config.hidden_size].mul_(1.1)  # of qkv the queries, of cross_kv the keys
        pairs = zip(golden["texts"], make_golden(task)["texts"], strict=True)
        assert any(np.abs(np.subtract(a["logits"], b["logits"])).max() > golden["tolerance"] for a, b in pairs), part


def test_an_encoder_folder_gives_its_weights_to_the_decoder(tmp_path: Path) -> None:
    start = tiny.masked_lm()
    task = tiny.seq2seq()
    fresh = task.load_weights(load_model(tiny.saved(start, tmp_path / "mlm"), head="seq2seq"))
    assert fresh == sorted(name for name in task.state_dict() if ".cross_" in name)
    for mine, theirs in zip(task.head.layers, start.encoder.layers, strict=True):
        assert torch.equal(mine.qkv.weight, theirs.qkv.weight)
    assert torch.equal(task.head.lm.dense.weight, start.head.dense.weight)
    assert torch.equal(task.head.lm.bias, start.head.bias)


def test_another_decoder_than_the_folders_is_refused(tmp_path: Path) -> None:
    folder = tiny.saved(tiny.seq2seq(num_decoder_layers=1), tmp_path / "model")
    with pytest.raises(UsageError, match="1 layers and shared") as caught:
        tiny.seq2seq().load_weights(load_model(folder))
    assert "--options.num_decoder_layers 1" in str(caught.value)
    with pytest.raises(UsageError, match="shared embeddings"):
        tiny.seq2seq(num_decoder_layers=1, share_embeddings=False).load_weights(load_model(folder))
    with pytest.raises(UsageError, match="cannot have more"):
        tiny.seq2seq(num_decoder_layers=3)
    with pytest.raises(ValueError, match="no room for the end"):
        tiny.seq2seq(min_length=16)


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        (("source", "target"), ("source", "target")),
        (("id", "summary", "text"), ("text", "summary")),
        (("highlights", "article"), ("article", "highlights")),
        (("title", "text"), ("text", "title")),
        (("en", "de"), ("en", "de")),
        (("id", "zh-CN", "en"), ("zh-CN", "en")),
        (("Question", "Answer"), ("Question", "Answer")),
        (("formal", "informal"), ("formal", "informal")),
    ],
)
def test_columns_are_found_by_name(columns: tuple[str, ...], wanted: tuple[str, str]) -> None:
    rows = [tuple(f"{name} number {at}" for name in columns) for at in range(3)]
    found = find_texts(table(columns, *rows), {})
    assert (found.source, found.target) == wanted
    assert not found.is_han


def test_columns_are_named_by_the_user_or_asked_for() -> None:
    three = table(("a", "b", "c"), ("x", "今天天气", "z"))
    found = find_texts(three, {"text_column": "c", "label_column": "b"})
    assert (found.source, found.target, found.is_han) == ("c", "b", True)
    two = table(("a", "b"), ("x", "y"))
    assert find_texts(two, {"label_column": "a"}).source == "b"
    qa = table(("question", "context", "answer"), ("x", "y", "z"))
    assert find_texts(qa, {}).pair == "context"
    with pytest.raises(DataError, match="no two columns"):
        find_texts(three, {})
    with pytest.raises(DataError, match="no column 'd'"):
        find_texts(three, {"text_column": "d"})
    with pytest.raises(DataError, match="looks like a row"):
        find_texts(table(("Hi there.", "你好。"), ("Go on.", "走。")), {})


def test_understanding_says_how_targets_are_scored() -> None:
    understood = Seq2Seq.understand(table(("en", "zh"), ("Go on.", "走吧。")), {})
    assert understood.settings["bleu_words"] == "zh"
    assert understood.settings["dev_texts"] == 200
    settings = Seq2SeqSettings.model_validate(understood.settings)
    row = {"en": "Go on.", "zh": "走吧。"}
    assert Seq2Seq.texts(row, settings) == ["Go on.", "走吧。"]
    assert Seq2Seq.group(row, settings) == ("Go on.",)


@pytest.mark.parametrize("family", samples.FAMILIES)
def test_texts_of_all_tokenizers_come_back_as_they_are_written(family: str, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(samples.folder_of(family, tmp_path / "tokenizer"))
    sizes = {"vocab_size": tokenizer.vocab_size, "pad_token_id": tokenizer.pad_id, "family": family}
    task = Seq2Seq(tiny.config(**sizes, type_vocab_size=2 if family == "bert" else 1), tokenizer, Seq2SeqSettings())
    task.init_weights(0)
    (features,) = task.encode([{"source": "a"}])
    for text in (samples.CHINESE[0], samples.ENGLISH[0]):
        found = Found(tokenizer.encode_ids([text])[0].tolist(), -0.5)
        answer = task.decode([Said([found])], [features], {})
        wanted = {"bert": text.lower(), "xlm-roberta": text.replace("，", ",")}.get(family, text)
        assert answer.text == wanted
        assert answer.score == pytest.approx(math.exp(-0.5))
    assert len(Predictor(task)(["a fine day", "很好"])) == 2


def test_an_empty_target_names_its_row() -> None:
    with pytest.raises(UnmaskError, match="'target' is empty") as caught:
        tiny.seq2seq().encode([{"text": "a", "target": "b"}, {"text": "a", "target": " "}], is_training=True)
    assert caught.value.details["place"] == "text 2"


def test_fine_tuning_chooses_the_task_and_keeps_a_model_that_writes_every_row(tmp_path: Path) -> None:
    file = tmp_path / "pairs.tsv"
    file.write_text("text\tsummary\n" + "".join(f"{row['text']}\t{row['target']}\n" for row in backwards()))
    model = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    options = {"dev_texts": 2, "max_target_length": 8, "num_decoder_layers": 1, "num_beams": 2}
    given = {"epochs": 1, "model": model, "options": options, "machine": {"threads": 1}}
    result = finetune(file, tmp_path / "run", given=(given,))
    assert result.main_metric == "chrf"
    assert result.scores["written_rows"] == 2
    predictor = Predictor.load(result.model)
    assert isinstance(predictor.task, Seq2Seq)
    assert predictor.task.settings.dev_texts is None
    assert predictor.task.settings.num_beams == 2
    found = evaluate(predictor, table(("text", "summary"), *[tuple(row.values()) for row in backwards()[:5]]))
    assert found.scores["written_rows"] == 5
    assert verify(result.model)["texts"] == 3
