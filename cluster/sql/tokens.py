"""Tokens of the dialect: one regular expression, and the words that are keywords.

0.13 lexes by longest match (sql.md 1.2); the order of the alternatives below gives the same
tokens. Which of several readings of the same text is meant (keyword or name, `a*` or `a * …`) is
decided by what the parser can take next, in `cluster.sql.parser`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

ID_CHARACTERS = r"A-Za-z0-9_:@#${}\u2E80-\u9FFF"
"""Characters of an identifier, for use inside a character class."""

STRING_PATTERN = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""

_DATETIME_PATTERN = (
    r"[0-9]+(?:-[0-9]+-[0-9]+|/[0-9]+/[0-9]+|\.[0-9]+\.[0-9]+)"
    r"(?:(?:[Tt]|[ \t]+)[0-9]+:[0-9]+:[0-9]+(?:\.[0-9]+)?(?:[Zz]|[+-][0-9]+:[0-9]+)?)?"
)
_NOT_ID = f"(?![{ID_CHARACTERS}])"
_AFTER_PARTIAL = (
    r"(?=[ \t\r\n]*(?:[,;.)=<>!]|\Z|(?i:from|as|into|where|with|limit|offset|slimit|soffset|order"
    r"|group|fill|align|disable|without|true|false|like|regexp|in|not|contains|between|is|and|or"
    rf"){_NOT_ID})|[ \t\r\n]+(?i:having|level|asc|desc|nulls|when|then|else|end){_NOT_ID})"
)
"""`ab*` is one node where no operand of a multiplication can follow; names such as `level` may."""

_PARTIALS = [
    ("PARTIAL_END", rf"[{ID_CHARACTERS}]+\*{_AFTER_PARTIAL}"),
    ("PARTIAL_START", rf"\*[{ID_CHARACTERS}]+\*?"),
]
_PLAIN = [
    ("STRING", STRING_PATTERN),
    ("BACKQUOTED", r"`(?:[^`\\]|\\.|``)*`"),
    ("DATETIME", _DATETIME_PATTERN),
    ("DURATION", rf"(?i:(?:[0-9]+(?:mo|ms|us|ns|[ywdhms]))+){_NOT_ID}"),
    ("EXP", rf"[0-9]+[eE][+-]?[0-9]+{_NOT_ID}"),
    ("INT", rf"[0-9]+{_NOT_ID}"),
    ("ID", rf"[{ID_CHARACTERS}]+"),
    ("OPERATOR", r"\*\*|==|!=|<>|>=|<=|&&|\|\||[-+*/%.,;()\[\]=<>&|!]"),
    ("END", r"\Z"),
]


def _compiled(alternatives: list[tuple[str, str]]) -> re.Pattern[str]:
    groups = "|".join(f"(?P<{name}>{pattern})" for name, pattern in alternatives)
    return re.compile(rf"[ \t\r\n]*(?:{groups})", re.ASCII | re.DOTALL)


TOKEN = _compiled(_PARTIALS + _PLAIN)
"""Matches one token and the white space before it; `lastgroup` names its kind."""

PLAIN_TOKEN = _compiled(_PLAIN)
"""The same without partial wildcards, for where the parser can't take one."""

OPERATORS = {
    "**": "DOUBLE_STAR",
    "*": "STAR",
    "==": "_EQ",
    "=": "_EQ",
    "!=": "NE",
    "<>": "NE",
    ">=": "GE",
    "<=": "LE",
    ">": "GT",
    "<": "LT",
    "&&": "_AND",
    "&": "_AND",
    "||": "_OR",
    "|": "_OR",
    "!": "NOT",
    "-": "MINUS",
    "+": "PLUS",
    "/": "DIV",
    "%": "MOD",
    ".": "_DOT",
    ",": "_COMMA",
    ";": "_SEMICOLON",
    "(": "_LPAREN",
    ")": "_RPAREN",
    "[": "_LBRACKET",
    "]": "_RBRACKET",
}

_CLASSED_WORDS = {
    "DATATYPE_VALUE": "BOOLEAN INT32 INT64 FLOAT DOUBLE TEXT",
    "ENCODING_VALUE": "PLAIN DICTIONARY RLE DIFF TS_2DIFF GORILLA REGULAR GORILLA_V1",
    "COMPRESSOR_VALUE": "UNCOMPRESSED SNAPPY GZIP LZ4",
    "BOOLEAN_LITERAL": "TRUE FALSE",
    "_AND": "AND",
    "_OR": "OR",
    "NOT": "NOT",
}
_CLASSED_WORDS_OF_V1 = {
    "DATATYPE_VALUE": "STRING BLOB DATE",
    "ENCODING_VALUE": "ZIGZAG CHIMP SPRINTZ RLBE",
    "COMPRESSOR_VALUE": "ZSTD LZMA2",
}
_NO_WORDS = (
    frozenset(OPERATORS.values())
    | frozenset(_CLASSED_WORDS)
    | {"STRING", "BACKQUOTED", "DATETIME", "DURATION", "EXP", "INT", "ID", "PARTIAL"}
)


def _class_of_word(classes: Mapping[str, str]) -> dict[str, str]:
    return {word: terminal for terminal, words in classes.items() for word in words.split()}


def keywords_of(terminals: Collection[str], *, modern: bool = False) -> dict[str, str]:
    """Return upper-case word → terminal for the terminals that a grammar uses.

    A terminal that is no operator, no kind of token and no class of words is a keyword: the word
    itself, after the underscore that keeps it out of the tree.
    """
    words = {name.lstrip("_"): name for name in terminals if name not in _NO_WORDS}
    words |= _class_of_word(_CLASSED_WORDS)
    return words | _class_of_word(_CLASSED_WORDS_OF_V1) if modern else words


RESERVED = frozenset({"ROOT", "TIME", "TIMESTAMP"})
"""Words that are never names."""

_DISPLAY = {name: f"'{text}'" for text, name in OPERATORS.items()} | {
    "$END": "<EOF>",
    "_EQ": "OPERATOR_EQ",
    "NE": "OPERATOR_NEQ",
    "GT": "OPERATOR_GT",
    "GE": "OPERATOR_GTE",
    "LT": "OPERATOR_LT",
    "LE": "OPERATOR_LTE",
    "_AND": "OPERATOR_AND",
    "_OR": "OPERATOR_OR",
    "NOT": "OPERATOR_NOT",
    "INT": "INTEGER_LITERAL",
    "EXP": "EXPONENT_NUM_PART",
    "STRING": "STRING_LITERAL",
    "DATETIME": "DATETIME_LITERAL",
    "DURATION": "DURATION_LITERAL",
    "BACKQUOTED": "BACK_QUOTED_ID",
    "NULL": "NULL_LITERAL",
    "NAN": "NAN_LITERAL",
    "PARTIAL": "ID*",
}


def display_name(terminal: str) -> str:
    """Return how a terminal is called in error messages (0.13's names)."""
    return _DISPLAY.get(terminal, terminal.lstrip("_"))


_ESCAPE = re.compile(r"\\(u+[0-9A-Fa-f]{4}|[0-3]?[0-7]{1,2}|.)", re.DOTALL)
_SIMPLE_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


def unquote(token: str) -> str:
    """Return the text of a string token: without its quotes, backslash escapes resolved."""
    text = token[1:-1]
    if "\\" not in text:
        return text
    return _SURROGATES.sub(_character, _ESCAPE.sub(_resolve, text))


_SURROGATES = re.compile("[\ud800-\udbff][\udc00-\udfff]|[\ud800-\udfff]")


def _character(match: re.Match[str]) -> str:
    """Return the character that a pair of surrogates stands for; `?` for one alone, as Java."""
    found = match[0]
    if len(found) == 1:
        return "?"
    return found.encode("utf-16-le", "surrogatepass").decode("utf-16-le")


def _resolve(match: re.Match[str]) -> str:
    escape = match[1]
    if escape[0] == "u" and len(escape) > 1:
        return chr(int(escape.lstrip("u"), 16))
    if escape[0].isdecimal():
        return chr(int(escape, 8)) if escape[0] in "01234567" else escape
    return _SIMPLE_ESCAPES.get(escape, escape)


_QUOTED = re.compile(r"`(?:[^`]|``)*`|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")
_NEEDS_ESCAPE = re.compile(r"[\\'\"]")


def with_backslashes(sql: str) -> str:
    r"""Return a text of 1.x with its strings written as 0.13 writes them.

    1.x doubles a quote inside of a string (`'it''s'`) and takes backslashes as they are; 0.13 puts
    a backslash before both.
    """
    if "\\" not in sql and "''" not in sql and '""' not in sql:
        return sql
    return _QUOTED.sub(_rewritten, sql)


def _rewritten(match: re.Match[str]) -> str:
    token = match[0]
    quote = token[0]
    if quote == "`":
        return token
    text = token[1:-1].replace(quote * 2, quote)
    return quote + _NEEDS_ESCAPE.sub(lambda found: "\\" + found[0], text) + quote
