"""Two small corpora of one tokenizer, for the tests of what looks at them."""

from pathlib import Path

import pytest

from tests.unit.data.corpora import write_text, write_tokenizer
from unmask.data.corpus import Corpus, build

HOSTILE = "An <script>alert(1)</script> & \u202e \u0007 sentence."


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> list[Corpus]:
    """60 and 25 documents in several shards; the second corpus has two equal ones, and markup."""
    folder = tmp_path_factory.mktemp("corpora")
    tokenizer = write_tokenizer(folder / "tokenizer")
    made = []
    for number, size in enumerate((60, 25)):
        text = write_text(folder / f"{number}.txt", num_documents=size, seed=number)
        if number:
            again = text.read_text().partition("\n\n")[0]
            text.write_text(text.read_text() + f"\n{again}\n\n" + f"{HOSTILE} " * 30 + "\n")
        output = folder / f"corpus-{number}"
        build([text], tokenizer_folder=tokenizer, output=output, processes=1, shard_tokens=2000)
        made.append(Corpus.open(output))
    return made


@pytest.fixture(scope="session")
def folders(corpora: list[Corpus]) -> list[Path]:
    return [corpus.folder for corpus in corpora]
