"""Exported models answer without torch as `Predictor` does with it."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tiny
from tests.house.source import ROOT
from tests.house.test_dependencies import NEEDED, OPTIONAL
from unmask import storage
from unmask.data.rows import Table
from unmask.errors import ArtefactError, DataError
from unmask.golden import verify
from unmask.predict import Predictor
from unmask.tasks import TASKS
from unmask.tasks.base import Task
from unmask.tasks.class_reader import ClassificationSettings
from unmask.tasks.classification import Classification
from unmask.tasks.seq2seq import Seq2Seq
from unmask.tasks.text_reader import Seq2SeqSettings

pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
from unmask.compress.export import export
from unmask.light import LightPredictor

NEAR = 1e-5
GUIDE = ROOT / "docs" / "guides" / "run-fast.md"
MODULES = {"scikit-learn": "sklearn", "tomli-w": "tomli_w"}
ALONE = """
import json, sys
from dataclasses import asdict

class Without:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Without())
from unmask.light import LightPredictor
for line in sys.stdin:
    folder, rows = json.loads(line)
    print(json.dumps([asdict(one) for one in LightPredictor.load(folder, threads=1).predict_rows(rows)]))
print(json.dumps([name for name in sys.argv[2].split(",") if name in sys.modules]))
"""


def named(packages: Iterable[str]) -> list[str]:
    """Modules of packages, sorted."""
    return sorted(MODULES.get(name, name) for name in packages)


def classifier(**settings: Any) -> Classification:
    known = {"labels": ("bad", "good"), "head_dropout": 0.0} | settings
    task = Classification(tiny.config(), tiny.tokenizer(), ClassificationSettings.model_validate(known))
    task.init_weights(0)
    return task


def in_bert_form() -> Task:
    return tiny.classifier(family="bert", type_vocab_size=2, pad_token_id=0)


def chained() -> Task:
    """A tagger whose tags depend on each other, with scores of the chain that matter."""
    task = tiny.tagger(crf=True)
    generator = torch.Generator().manual_seed(0)
    for values in task.head.crf.values():
        values.data.normal_(std=0.5, generator=generator)
    return task


def writer(shape: dict[str, Any] | None = None, **settings: Any) -> Seq2Seq:
    """A writer whose biases and norms matter too, and whose texts hang on their sources."""
    known = {"text_column": "text", "max_target_length": 12, "num_candidates": 4, "no_repeat_ngram": 1} | settings
    config = tiny.config(initializer_range=0.3, **(shape or {}))
    task = Seq2Seq(config, tiny.tokenizer(), Seq2SeqSettings.model_validate(known))
    task.init_weights(0)
    generator = torch.Generator().manual_seed(0)
    for parameter in task.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    for layer in task.head.layers:
        layer.cross_out.weight.data *= 4
    return task


def dev_rows() -> Table:
    rows = tiny.rows_of(tiny.classifier())
    return Table(rows=rows, columns=tuple(rows[0]), path=Path("dev.csv"), lines=list(range(2, 2 + len(rows))))


LONG = " ".join([*tiny.GOOD, *tiny.BAD] * 4)  # read in windows
TEXTS = [{"text": text} for text in (*tiny.GOOD, "x", LONG)]
PAIRS = [{"text": text, "pair": LONG[:40]} for text in (*tiny.BAD, LONG)]
QUESTIONS = [{"question": "Where?", "context": text} for text in (tiny.STORY, *tiny.GOOD, LONG)]
CHOICES = [
    {"text": "It was", "choices": ["good", "bad"]},
    {"text": "A _ film", "choices": "fine|dull|long", "context": LONG},
]
MASKS = [{"text": text} for text in ("<mask> film", f"A {LONG[:30]} <mask> and <mask>.", "naïve <mask>")]
BERT = {"family": "bert", "type_vocab_size": 2, "pad_token_id": 0}
CASES: dict[str, tuple[Task, list[dict[str, Any]]]] = {
    "one label": (tiny.classifier(), TEXTS),
    "temperature": (classifier(temperature=0.3, top_k=1), TEXTS),
    "pairs": (classifier(pair_column="pair"), PAIRS),
    "several labels": (classifier(multi_label=True, thresholds=(0.5, 0.4)), TEXTS),
    "bert": (in_bert_form(), TEXTS),
    "regression": (tiny.regression(), TEXTS),
    "tagging": (tiny.tagger(), TEXTS),
    "tagging by means": (tiny.tagger(pooling="mean"), TEXTS),
    "questions": (tiny.span_qa(text_column="question"), QUESTIONS),
    "questions without answers": (tiny.span_qa(text_column="question", has_no_answers=True), QUESTIONS),
    "tagging by a chain": (chained(), TEXTS),
    "choices": (tiny.multiple_choice(text_column="text"), CHOICES),
    "classes never seen": (tiny.zero_shot(), TEXTS),
    "masks": (tiny.masked_lm(), MASKS),
    "texts": (writer(), TEXTS),
    "texts by an own table": (
        writer(share_embeddings=False, num_decoder_layers=1, num_beams=1, no_repeat_ngram=0),
        TEXTS,
    ),
    "texts of pairs in bert form": (writer(BERT, pair_column="pair", source_prefix="say: "), PAIRS),
    "texts by all rules": (
        writer(min_length=5, no_repeat_ngram=2, length_penalty=0.6, num_beams=3, max_length=20),
        TEXTS,
    ),
    "embedding": (tiny.embedder(), [{"text": one["text"]} for one in TEXTS] + PAIRS),
}


def as_json(answers: list[Any]) -> Any:
    return json.loads(json.dumps([asdict(one) for one in answers]))


def same(ours: Any, theirs: Any) -> bool:
    """Whether two answers as JSON are equal, their numbers nearly."""
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same(ours[name], theirs[name]) for name in ours)
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return bool(ours == pytest.approx(theirs, abs=NEAR)) if isinstance(ours, float) else bool(ours == theirs)


def test_answers_without_torch_are_those_with_it(tmp_path: Path) -> None:
    (told,) = re.findall(r"^pip install --no-deps unmask\npip install (.*)$", GUIDE.read_text("utf-8"), re.MULTILINE)
    needed, others = named(told.split()), named({*NEEDED, *OPTIONAL["onnx"]} - set(told.split()))
    assert {"torch", "pyarrow", "sklearn"} < set(others)
    asked = []
    for name, (task, rows) in CASES.items():
        export(task.eval(), tmp_path / name)
        asked.append(json.dumps([str(tmp_path / name), rows]))
    command = [sys.executable, "-c", ALONE, ",".join(others), ",".join(needed)]
    done = subprocess.run(command, input="\n".join(asked), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {task.name for task, _ in CASES.values()} == set(TASKS)
    *lines, used = done.stdout.splitlines()
    for line, (name, (task, rows)) in zip(lines, CASES.items(), strict=True):
        wanted = as_json(Predictor(task).predict_rows(rows))
        assert same(json.loads(line), wanted), name
    assert json.loads(used) == needed, "each package that the guide names"


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("texts")])
def test_a_text_is_written_alike_alone_and_in_parts(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, rows = CASES[name]
    export(task.eval(), tmp_path / "model")
    light = LightPredictor.load(tmp_path / "model", threads=1)
    together = light.predict_rows(rows)
    assert len({one.text for one in together}) > 1
    alone = [light.predict_rows([row])[0] for row in rows]
    monkeypatch.setattr("unmask.tasks.text_reader.MAX_SCORES", 2 * 4 * task.config.vocab_size)
    for others in (alone, light.predict_rows(rows)):
        assert same(as_json(others), as_json(together))


def test_texts_pairs_and_wrong_numbers_of_them(tmp_path: Path) -> None:
    export(CASES["pairs"][0].eval(), tmp_path / "model")
    light = LightPredictor.load(tmp_path / "model", threads=1)
    assert light([("a", "b"), {"text": "a", "pair": "b"}])[0] == light([("a", "b")])[0]
    assert light([]) == []
    with pytest.raises(DataError, match="reads 2 text"):
        light(["a"])
    with pytest.raises(DataError, match="single string"):
        light("a")
    with pytest.raises(DataError, match="text 2"):
        light([("a", "b"), ("a", None)])
    with pytest.raises(DataError, match="line 7"):
        light.predict_rows([{"text": "a", "pair": " "}], place=lambda _: "line 7")


def test_other_folders_are_refused(tmp_path: Path) -> None:
    folder = tiny.saved(tiny.classifier(), tmp_path / "model")
    with pytest.raises(ArtefactError, match="not written by `unmask export`"):
        LightPredictor.load(folder)
    export(tiny.classifier().eval(), tmp_path / "exported")
    graph = tmp_path / "exported" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    with pytest.raises(ArtefactError, match="differ from the manifest"):
        LightPredictor.load(tmp_path / "exported")


def test_a_folder_of_a_newer_version_is_called_so(tmp_path: Path) -> None:
    export(tiny.classifier().eval(), tmp_path / "exported")
    note = tmp_path / "exported" / "unmask.json"
    content = json.loads(note.read_text("utf-8"))
    content["meta"]["task"]["name"] = "a_task_of_tomorrow"
    for changes, message in (({}, "a task that this version does not read, by unmask 0"), ({"format": 99}, "newer")):
        note.write_text(json.dumps(content | changes), "utf-8")
        (tmp_path / "exported" / "MANIFEST.json").unlink()
        storage.seal(tmp_path / "exported")
        with pytest.raises(ArtefactError, match=message):
            LightPredictor.load(tmp_path / "exported")


def test_a_processor_that_int8_overflows_on_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("unmask.engine.onnx_graph.saturates", lambda: False)
    export(tiny.classifier().eval(), tmp_path / "model", precision="int8", dev=dev_rows())
    monkeypatch.setattr("unmask.light.saturates", lambda: True)
    LightPredictor.load(tmp_path / "model", threads=1)
    assert "can overflow" in caplog.text


@pytest.mark.parametrize("name", ["float32", "int8", "masks", "choices", "texts"])
def test_an_exported_folder_is_verified(name: str, tmp_path: Path) -> None:
    task, precision = (CASES[name][0].eval(), "float32") if name in CASES else (classifier(), name)
    export(task, tmp_path / "model", precision=precision, dev=dev_rows() if precision == "int8" else None)
    found = verify(tmp_path / "model")
    assert found["texts"] == 3
    assert found["difference"] < NEAR
    golden = json.loads((tmp_path / "model" / "golden.json").read_text())
    golden["exported"]["rows"][0]["numbers"][0] += 0.5
    without = {name: value for name, value in golden["exported"].items() if name != "rows"}
    for changed, told in (("changed", precision), ("older", "earlier version")):
        with storage.staged(tmp_path / changed) as staging:
            for file in (tmp_path / "model").iterdir():
                if file.name != storage.MANIFEST:
                    shutil.copy(file, staging)
            (staging / "golden.json").write_text(
                json.dumps(golden if changed == "changed" else golden | {"exported": without})
            )
        with pytest.raises(ArtefactError, match=told):
            verify(tmp_path / changed)
