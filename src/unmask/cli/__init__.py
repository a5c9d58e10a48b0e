"""The command line: one table of commands, each imported only when it is chosen."""

import errno
import importlib
import io
import json
import logging
import os
import signal
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import pydantic
from cyclopts import App, CycloptsError, Parameter, UnknownOptionError

from unmask import __version__
from unmask.bundled import find_model
from unmask.config import explain
from unmask.disk import FULL
from unmask.errors import InterruptedRunError, ResourceError, UnmaskError, UsageError, is_out_of_memory

COMMANDS = {
    "demo": ("unmask.cli.start:demo", "Raw text to answers in about a minute, offline, on bundled text."),
    "doctor": ("unmask.cli.start:doctor", "Say what this machine and this installation can do."),
    "tokenizer train": ("unmask.cli.build:tokenizer_train", "Train a byte-level BPE tokenizer on files of text."),
    "tokenizer report": ("unmask.cli.build:tokenizer_report", "Measure how well a tokenizer fits files of text."),
    "tokenizer extend": (
        "unmask.cli.build:tokenizer_extend",
        "Add pieces of a new language or field to a model's tokenizer, and their rows to its tables.",
    ),
    "corpus build": ("unmask.cli.build:corpus_build", "Turn files of text into a corpus folder to pre-train on."),
    "corpus report": ("unmask.cli.build:corpus_report", "Describe a corpus folder."),
    "build": ("unmask.cli.train:build", "Make an encoder from files of text: tokenizer, corpus, pre-training."),
    "pretrain": ("unmask.cli.train:pretrain", "Pre-train a RoBERTa on a corpus folder."),
    "finetune": ("unmask.cli.train:finetune", "Fine-tune a model on a file of labelled rows."),
    "tune": ("unmask.cli.tune:tune", "Search for the settings that fine-tune best on a file of labelled rows."),
    "evaluate": ("unmask.cli.use:evaluate", "Score a model on a file of labelled rows."),
    "predict": ("unmask.cli.predict:predict", "Answer for texts: classes, or what stands behind a mask."),
    "compare": ("unmask.cli.compare:compare", "Compare two models on a file of labelled rows, with significance."),
    "suite": ("unmask.cli.suite:suite", "Fine-tune and score a model on every set of GLUE, CLUE, SQuAD or your own."),
    "embed": ("unmask.cli.vectors:embed", "Write the vectors of a file of texts."),
    "search": ("unmask.cli.vectors:search", "Find the texts of a file that mean nearly what a query means."),
    "average": ("unmask.cli.average:average", "Write the mean of the weights of several models of one start."),
    "export": ("unmask.cli.export:export", "Write a model as one ONNX file, to be used without torch."),
    "quantize": (
        "unmask.cli.compress:quantize",
        "Prove on labelled rows that a model may be computed in bfloat16 or int8, and write it with the proof.",
    ),
    "verify": ("unmask.cli.use:verify", "Check a folder's files and, for a model, its parity certificate."),
    "plan": ("unmask.cli.study:plan", "Say which network to pre-train in some hours on this machine."),
    "debug data": ("unmask.cli.data:debug_data", "Look at labelled files: labels, lengths, copies, odd rows."),
    "inspect corpus": ("unmask.cli.study:inspect_corpus", "Show what is in a corpus."),
    "inspect batch": ("unmask.cli.study:inspect_batch", "Show a batch of pre-training, with its masks and borders."),
    "probe blimp": ("unmask.cli.study:probe_blimp", "Ask a model which sentence of each minimal pair is likelier."),
    "probe corpus": ("unmask.cli.study:probe_corpus", "Say how well a model guesses held-out text of corpora."),
    "probe sentences": ("unmask.cli.study:probe_sentences", "Give the pseudo-log-likelihood of sentences."),
    "probe words": ("unmask.cli.vectors:probe_words", "Measure a model's word vectors by scored pairs and analogies."),
}
# A path of a model or a run, or the name of a model that comes with the package.
_NAMED = Parameter(converter=lambda _, tokens: find_model(tokens[0].value))
ModelFolder = Annotated[Path, _NAMED]
MaybeModelFolder = Annotated[Path | None, _NAMED]
SMALLER = {"pretrain": "--micro-batch-size", "build": "--pretrain.micro-batch-size"} | dict.fromkeys(
    ("finetune", "tune", "suite", "predict", "evaluate", "compare", "embed", "search"), "--max-tokens"
)
"""The flag that makes a command take less memory."""
_TRAINING = ("pretrain", "build", "finetune", "tune", "suite")
_OF_TEXTS = ("predict", "search")
_GROUPS = {
    "tokenizer": "Train and measure tokenizers.",
    "corpus": "Build and describe corpora.",
    "debug": "Look for what is wrong before a model is trained.",
    "inspect": "Look at what a model is trained on.",
    "probe": "Ask what a model has learned.",
}


def build_app() -> App:
    """The command tree of `COMMANDS`."""
    app = App(
        name="unmask",
        help="RoBERTa, the whole recipe: from a folder of text to a model that answers.",
        help_format="plaintext",
        version=__version__,
        default_parameter=Parameter(negative=()),
        suppress_keyboard_interrupt=False,
    )
    groups = {name: App(name=name, help=text, help_format="plaintext") for name, text in _GROUPS.items()}
    for group in groups.values():
        app.command(group)
    for name, (target, text) in COMMANDS.items():
        group_name, _, command = name.rpartition(" ")
        groups.get(group_name, app).command(target, name=command, help=text)
    return app


app = build_app()


def heavy(path: str) -> Any:
    """Import `module:name` now, for a command that was chosen."""
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def say(value: object) -> None:
    """Write one line of data to stdout: text as it is, anything else as JSON, dataclasses such as spans as objects."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=asdict)
    sys.stdout.write(text + "\n")


def main(arguments: list[str] | None = None) -> None:
    """Run one command and end the process with its exit code; `--debug` anywhere shows tracebacks."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    is_debugging = "--debug" in words
    words = [word for word in words if word != "--debug"]
    _open_closed_streams()
    # In the locale C the streams would be ASCII, and Chinese an error; a name of a file comes out as it came in.
    for stream, errors in ((sys.stdout, "surrogateescape"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors=errors)
    talk = logging.StreamHandler(sys.stderr)
    talk.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("unmask").handlers[:] = [talk]
    logging.getLogger("unmask").setLevel(logging.INFO)
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        code = _run(words, is_debugging)
    finally:
        signal.signal(signal.SIGTERM, before)
    ranks = sys.modules.get("unmask.train.distributed")
    if ranks is not None and ranks.has_joined():
        # threads of a process group that outlive the interpreter's end abort the process, whose work is done
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _open_closed_streams() -> None:
    """Put streams that the caller has closed to nowhere, else the next files that are opened take their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)  # takes the least number that is free: the stream's own
            os.set_inheritable(nowhere, True)
            setattr(sys, name, os.fdopen(nowhere, mode, encoding="utf-8"))


def _terminated(number: int, _frame: object) -> None:
    """End in order, so that half-written folders are removed; loops of training take the signal over and save first.

    It is no `Exception`, because code that happens to run, such as logging, catches those.
    """
    raise KeyboardInterrupt(number)


def _run(words: list[str], is_debugging: bool) -> int:
    try:
        app(words, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
        return 0
    except CycloptsError as error:
        return _tell(_usage(error, words), is_debugging)
    except UnmaskError as error:
        return _tell(error, is_debugging)
    except BrokenPipeError:
        _close_output()
        return 0
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return _tell(_no_memory(words, error), is_debugging)
    except OSError as error:
        told = _refused(error)
        if told is None:
            raise
        return _tell(told, is_debugging)
    except KeyboardInterrupt as interrupt:
        number = int(interrupt.args[0]) if interrupt.args else int(signal.SIGINT)
        return _tell(InterruptedRunError(number, "what was finished before"), is_debugging)


def _refused(error: OSError) -> ResourceError | None:
    """What an error of the system means for a user; `None` for those that only a bug can explain."""
    if error.filename is not None:
        return ResourceError("cannot-open", str(error.strerror), place=error.filename, remedy="check path and rights")
    if error.errno not in (*FULL, errno.EIO):
        return None
    _close_output()  # what is left in its buffer would fail again when the process ends
    return ResourceError(
        "cannot-write",
        f"what was written is not whole: {error.strerror}",
        place="standard output, or a file for the time being",
        remedy="free some space, or write elsewhere, and start the same command again",
    )


def _close_output() -> None:
    """Let the rest of standard output go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _no_memory(words: list[str], error: Exception) -> ResourceError:
    command = words[0] if words else ""
    smaller = f"lower {SMALLER[command]}, or " if command in SMALLER else ""
    return ResourceError(
        "no-memory",
        "the memory does not suffice",
        value=str(error).splitlines()[0] if str(error) else None,
        remedy=f"{smaller}take a smaller model or a machine with more memory",
        saved="checkpoints stay; the same command with a smaller batch needs another --output"
        if command in _TRAINING
        else None,
    )


def _usage(error: CycloptsError, words: list[str]) -> UsageError:
    cause = error.__cause__
    if isinstance(cause, pydantic.ValidationError) and error.argument is not None:
        hint = error.argument.hint
        if isinstance(hint, type) and issubclass(hint, pydantic.BaseModel):
            return explain(cause, hint, place="command line")
    remedy = "add --help to see what is accepted"
    if isinstance(error, UnknownOptionError) and words[0] in _OF_TEXTS:
        remedy += f'; a text that begins with a dash stands last, behind --: unmask {words[0]} ... -- "-5 degrees"'
    return UsageError("bad-command", str(error), place="command line", remedy=remedy)


def _tell(error: UnmaskError, is_debugging: bool) -> int:
    if is_debugging:
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.write(f"error: {error}\n")
    return error.exit_code
