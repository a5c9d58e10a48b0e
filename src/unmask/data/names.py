"""What columns are usually called."""

LABEL_NAMES = ("label", "labels", "class", "category", "target", "sentiment", "intent", "topic", "emotion", "gold", "y")
SCORE_NAMES = ("score", "similarity", "rating", "relatedness", "similarity_score", "relatedness_score")
OTHER_NAMES = ("id", "idx", "index", "fold", "split", "lang", "language", "source", "date")
TEXT_NAMES = ("text", "sentence", "text_a", "review", "message", "content", "body", "query", "question", "comment")
PAIR_NAMES = (
    ("sentence1", "sentence2"),
    ("text_a", "text_b"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("query", "passage"),
    ("text", "text_pair"),
    ("#1 string", "#2 string"),
    ("keyword", "abst"),
)
KNOWN_NAMES = frozenset(
    (*LABEL_NAMES, *SCORE_NAMES, *OTHER_NAMES, *TEXT_NAMES, *(name for pair in PAIR_NAMES for name in pair))
)
LANGUAGES = frozenset(
    ["ar", "cs", "de", "en", "es", "fr", "hi", "it", "ja", "ko", "nl", "pl", "pt", "ru", "tr", "vi", "zh"]
)
