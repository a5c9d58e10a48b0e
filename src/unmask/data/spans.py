"""Labelled stretches of a text, in characters."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A labelled stretch of a text: `text[start:end]`.

    Attributes:
        start: first character.
        end: character behind the last one.
        label: what it is, such as `PER`.
    """

    start: int
    end: int
    label: str
