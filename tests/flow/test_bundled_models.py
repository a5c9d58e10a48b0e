"""The encoders inside the package: found by name, as certified, and started from where nothing else is named."""

import json
import lzma
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
import transformers

from tests import tiny
from tests.flow.test_spine import run
from unmask import Predictor, Tokenizer, bundled, golden
from unmask.bundled import CHINESE, ENGLISH, FOLDER, find_model, model_for, model_names
from unmask.checkpoint import load_model
from unmask.config import load_recipe, resolve
from unmask.data.rows import Table
from unmask.errors import ArtefactError
from unmask.evaluate import evaluate
from unmask.train.job import read_job
from unmask.train.settings import BuildSettings

MAX_BYTES = 40_000_000
ROWS = {
    ENGLISH: ["a fine and lovely film", "poor acting, a bore"],
    CHINESE: ["这部电影很好", "剧情太差了"],
    None: ["это хороший фильм", "плохо"],
}


def write_rows(folder: Path, texts: list[str]) -> Path:
    path = folder / "rows.jsonl"
    lines = [{"text": f"{text} {n}", "label": f"{at}"} for n in range(10) for at, text in enumerate(texts)]
    path.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    return path


def nats(model: str, text: str) -> float:
    """Mean loss of masked tokens of the first paragraphs of a text."""
    rows = [{"text": one} for one in text.split("\n") if len(one) > 80][:40]
    table = Table(Path("text"), ("text",), rows, list(range(1, len(rows) + 1)))
    return float(evaluate(Predictor.load(model), table).scores["nats_per_token"])


@pytest.mark.parametrize("name", [ENGLISH, CHINESE])
def test_it_is_small_and_as_certified(name: str) -> None:
    folder = find_model(name)
    assert sum(path.stat().st_size for path in folder.iterdir()) < MAX_BYTES
    assert golden.verify(folder)["texts"] == 3
    assert transformers.AutoModelForMaskedLM.from_pretrained(folder).config.vocab_size > 10_000


@pytest.mark.parametrize("name", [ENGLISH, CHINESE])
def test_its_card_attributes_the_text_as_its_recipe_does(name: str) -> None:
    card = (find_model(name) / "README.md").read_text("utf-8")
    asked = resolve(BuildSettings, load_recipe(name.replace("unmask", "bundled"), "build")).pretrain.card
    assert asked.name == name
    assert all(text.strip() in card for text in asked.sections.values())


def test_it_knows_text_of_its_language() -> None:
    """English that it has not read; Chinese that it has, as its card says: lost weights would know neither."""
    english = (FOLDER / "text-en/london-call-of-the-wild-1903.txt").read_text("utf-8").replace("\n", " ")
    sentences = "\n".join(english[at : at + 300] for at in range(20_000, 40_000, 500))
    chinese = lzma.decompress((FOLDER / "text-zh/prc-laws-sample.txt.xz").read_bytes()).decode("utf-8")
    assert nats(ENGLISH, sentences) < 4.6
    assert nats(CHINESE, chinese) < 2.2


def test_a_name_is_a_folder_unless_one_lies_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert model_names() == sorted([ENGLISH, CHINESE])
    assert find_model(ENGLISH) == Path(str(resources.files("unmask"))) / "bundled/models" / ENGLISH
    assert find_model("elsewhere/" + ENGLISH) == Path("elsewhere") / ENGLISH
    assert find_model("no-such-model") == Path("no-such-model")
    (tmp_path / "run/model").mkdir(parents=True)
    assert find_model(tmp_path / "run") == tmp_path / "run"
    (tmp_path / "run/model/config.json").touch()
    assert find_model(tmp_path / "run") == tmp_path / "run/model"
    (tmp_path / "run/config.json").touch()
    assert find_model(tmp_path / "run") == tmp_path / "run"
    monkeypatch.chdir(tmp_path)
    (tmp_path / ENGLISH).mkdir()
    assert find_model(ENGLISH) == Path(ENGLISH)


def test_nothing_in_the_working_directory_is_taken_for_it_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rows = write_rows(tmp_path, ROWS[ENGLISH])
    monkeypatch.chdir(tmp_path)
    (tmp_path / ENGLISH).mkdir()
    job, _ = read_job(rows, model="auto")
    assert job.start is not None
    assert job.origin == ENGLISH
    bundled._tell_shadow.cache_clear()
    with pytest.raises(ArtefactError, match="no-model"):
        read_job(rows, model=ENGLISH)
    assert "not the model that comes with unmask" in caplog.text


def test_python_takes_names_where_the_commands_do() -> None:
    fingerprint = Tokenizer.load(find_model(CHINESE)).fingerprint
    assert Tokenizer.load(CHINESE).fingerprint == Tokenizer.load(f"{CHINESE}/").fingerprint == fingerprint
    assert load_model(CHINESE).tokenizer.fingerprint == fingerprint


def test_a_tokenizer_folder_is_itself_whatever_lies_in_it(tmp_path: Path) -> None:
    made = tiny.tokenizer()
    made.save(tmp_path / "tokenizer")
    shutil.copytree(find_model(CHINESE), tmp_path / "tokenizer/model")
    assert Tokenizer.load(tmp_path / "tokenizer").fingerprint == made.fingerprint


def test_the_script_of_the_text_chooses() -> None:
    assert {name: model_for(texts) for name, texts in ROWS.items()} == {name: name for name in ROWS}
    assert model_for(["GitHub 上的 unmask 很好用"]) == CHINESE
    assert model_for(["a naïve waiter in the café on the corner, 42"]) == ENGLISH
    assert model_for(["42", "!"]) is None
    assert model_for(["これは良い映画です"]) is None, "Japanese is not Chinese"
    assert model_for(["Příliš žluťoučký kůň", "Tôi yêu tiếng Việt", "żółć"]) == ENGLISH, "their letters are Latin ones"
    assert model_for([*ROWS[CHINESE], *["a long line of English that has far more letters than both"] * 1]) == CHINESE
    assert model_for([*ROWS[None], ROWS[ENGLISH][0]]) is None
    assert model_for([*["42"] * 9, ROWS[ENGLISH][0]]) == ENGLISH, "numbers are of no script"
    assert model_for(["東京都知事選挙", "日本政府発表", "株価上昇", "これは良い映画です"]) is None, (
        "headlines with few kana"
    )


def test_the_texts_of_a_row_have_one_vote_together(tmp_path: Path) -> None:
    rows = [
        {"question": f"从北京到天津有多远，第{n}题？", "choices": ["3 km", "30 km", "120 km", "900 km"], "label": n % 4}
        for n in range(10)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    assert read_job(tmp_path / "rows.jsonl", model="auto")[0].origin == CHINESE


def test_other_columns_than_the_text_do_not_count(tmp_path: Path) -> None:
    rows = [
        {"text": f"好{n}", "url": f"https://example.org/a/long/address/{n}", "label": str(n % 2)} for n in range(20)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    given = ({"data": {"text_column": "text", "label_column": "label"}},)
    assert read_job(tmp_path / "rows.jsonl", model="auto", given=given)[0].origin == CHINESE


@pytest.mark.parametrize("name", list(ROWS))
def test_fine_tuning_starts_from_it(name: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="unmask")
    rows = write_rows(tmp_path, ROWS[name])
    job, settings = read_job(rows, model="auto")
    if name is None:
        assert job.start is None
        assert "no bundled model knows the script" in caplog.text
        return
    assert job.start is not None
    assert job.start.tokenizer.fingerprint == Tokenizer.load(find_model(name)).fingerprint
    assert f"starting from {name}" in caplog.text
    assert settings.optim.lr == 3e-4
    assert read_job(rows, model=name)[0].inputs == job.inputs


def test_random_weights_are_asked_for_by_name_or_shape(tmp_path: Path) -> None:
    rows = write_rows(tmp_path, ROWS[ENGLISH])
    assert read_job(rows, model="random")[0].start is None
    assert read_job(rows, model="auto", given=({"model": {"hidden_size": 256}},))[0].start is None


def test_commands_take_the_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("predict", "The <mask> of the king.", "--model", ENGLISH, "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["masks"][0]["candidates"]) > 1
    assert run("verify", ENGLISH) == 0
    assert "3 certified texts" in capsys.readouterr().out
    assert run("predict", "a text", "--model", "unmask-tiny-en") == 4
    assert "unmask-small-en" in capsys.readouterr().err


def test_finetune_needs_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write_rows(tmp_path, ROWS[ENGLISH])
    words = ("--epochs", 1, "--machine.threads", 1, "--output", tmp_path / "run")
    assert run("finetune", rows, *words) == 0
    assert load_model(tmp_path / "run/model").config.vocab_size == load_model(find_model(ENGLISH)).config.vocab_size
    assert "* started from: unmask-small-en" in (tmp_path / "run/model/README.md").read_text("utf-8")


def test_an_answer_needs_no_statistics(tmp_path: Path) -> None:
    """Half a second of imports that only scoring needs."""
    folder = tiny.saved(tiny.classifier(), tmp_path / "model")
    code = (
        "import sys\nfrom unmask import Predictor\n"
        f"Predictor.load({str(folder)!r})(['a fine film'])\n"
        "print([name for name in ('sklearn', 'scipy.stats', 'scipy.optimize') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
