"""What the toy world is made of: categories, attributes, words, edit types and tokens."""

from __future__ import annotations

CATEGORIES = ("landscape", "portrait", "text")
EDIT_TYPES = ("scene", "enhance", "object", "text", "identity", "style")
LETTERS = "AEILOPSTXY"
# Chosen from ten letters that stay apart in a font three pixels wide.
WORDS = (
    *("TO", "AT", "IT", "OX"),
    *("TEA", "PIE", "OIL", "SEA", "TOY", "PAY", "SPA"),
    *("TAXI", "EXIT", "STOP", "SALE", "STAY", "PLAY", "POST", "TOYS", "SOAP", "LIST", "TILE"),
)
LETTER_SLOTS = 4
BLANK = "_"
"""The letter token that fills a short word up to four slots."""

ATTRIBUTES: dict[str, dict[str, tuple[str, ...]]] = {
    "landscape": {
        "time": ("day", "sunset", "night"),
        "ground": ("grass", "sand", "snow"),
        "relief": ("hills", "mountains"),
        "object": ("nothing", "a tree", "a house", "a lake"),
    },
    "portrait": {
        "skin": ("fair", "tan", "dark"),
        "hair": ("black", "blond", "red"),
        "expression": ("smiling", "sad", "surprised"),
        "accessory": ("bare", "glasses", "hat"),
    },
    "text": {
        "colour": ("red", "blue", "green", "yellow"),
        "word": WORDS,
    },
}
"""Per category, its attributes in the order of `Prompt.attributes`, and their values."""

OPERATIONS = {"enhance": ("denoise", "deblur"), "style": ("grey", "sepia", "invert")}
"""The edits that change no attribute, and what they do to the pixels."""

TOKENS = 6
"""Tokens in every encoded caption or instruction."""

VOCABULARY: tuple[str, ...] = (
    "<pad>",
    *CATEGORIES,
    *(f"edit:{name}" for name in EDIT_TYPES),
    *(
        f"{name}:{value}"
        for attributes in ATTRIBUTES.values()
        for name, values in attributes.items()
        if name != "word"
        for value in values
    ),
    *(f"letter:{letter}" for letter in (*LETTERS, BLANK)),
    *(f"operation:{value}" for values in OPERATIONS.values() for value in values),
)

CAPTIONS = {
    "landscape": "a landscape at {0}: {1} and {2}, with {3}",
    "portrait": "a portrait: {0} skin, {1} hair, {2}, {3}",
    "text": 'a {0} sign that says "{1}"',
}
INSTRUCTIONS = {
    "time": "make it {}",
    "object": "put {} there",
    "hair": "make the hair {}",
    "expression": "make the face {}",
    "accessory": "change the accessory to {}",
    "word": 'change the word to "{}"',
    "denoise": "remove the noise",
    "deblur": "sharpen the picture",
    "grey": "turn it grey",
    "sepia": "turn it sepia",
    "invert": "invert the colours",
}
