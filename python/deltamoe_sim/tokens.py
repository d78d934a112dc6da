"""A shader's text as tokens: brackets matched, scopes and statements known, edits collected and applied in one go."""

from __future__ import annotations

import bisect
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
    (?P<directive>^[ \t]*\#[^\n]*$)
  | (?P<string>"(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*')
  | (?P<number>\.?\d(?:[eEpP][+-]|[\w.])*)
  | (?P<word>[A-Za-z_]\w*)
  | (?P<space>[ \t\r\n]+)
  | (?P<punctuation>::|->|\[\[|[^\s\w])
    """,
    re.MULTILINE | re.VERBOSE,
)
_LINE_MARKER = re.compile(r'\s*#\s*(?:line\s+)?(\d+)\s+"([^"]*)"')
_OPENING = {")": "(", "]": "[", "}": "{"}
_NOT_A_FUNCTION = {"=", ",", "(", "return", ">"}

NAMESPACE, CLASS, FUNCTION, OTHER = "namespace", "class", "function", "other"


@dataclass(slots=True)
class Token:
    kind: str
    text: str
    start: int
    end: int
    partner: int = -1
    """Index of the matching bracket; of [[ the second bracket of its ]]."""
    scope: str = NAMESPACE
    """What the innermost braces around it are: namespace, class, function or other (enum, initialiser)."""
    statement: int = 0
    """Index of the first token of its statement."""
    depth: int = 0
    """Of parentheses around it, within its braces."""
    level: int = 0
    """Of braces around it."""


@dataclass(frozen=True, slots=True)
class _Edit:
    start: int
    end: int
    text: str

    def order(self) -> tuple[int, bool, int]:
        """Insertions first, then the longest."""
        return self.start, self.end > self.start, -self.end


class Source:
    """Preprocessed text. Line markers are kept, and tokens of files for which `hidden` is true are left out."""

    def __init__(self, text: str, hidden: Callable[[str], bool]) -> None:
        self.text = text
        self.tokens: list[Token] = []
        self._edits: list[_Edit] = []
        self._markers: list[tuple[int, int, str]] = []
        self._index: defaultdict[str, list[int]] = defaultdict(list)
        self._tokenize(hidden)
        self._match_brackets()
        self._find_scopes()

    # ---- reading

    def find(self, *texts: str) -> Iterator[int]:
        """Indices of the tokens that read so, in order."""
        return iter(sorted(i for text in texts for i in self._index[text]))

    def of_kind(self, kind: str) -> Iterator[int]:
        return (i for i, token in enumerate(self.tokens) if token.kind == kind)

    def is_at(self, i: int, *texts: str) -> bool:
        """Whether the tokens from i on read so."""
        tokens = self.tokens[max(i, 0) : i + len(texts)]
        return i >= 0 and [token.text for token in tokens] == list(texts)

    def texts(self, i: int, j: int) -> list[str]:
        return [token.text for token in self.tokens[i:j]]

    def location(self, i: int) -> tuple[str, int, int]:
        """File, line and column of a token; the file and line as the line markers give them."""
        start = self.tokens[i].start
        column = start - self.text.rfind("\n", 0, start)
        marker = bisect.bisect_right(self._markers, (start, 0, "")) - 1
        if marker < 0:
            return "", self.text.count("\n", 0, start) + 1, column
        position, line, file = self._markers[marker]
        return file, line + self.text.count("\n", position, start) - 1, column

    def skip(self, i: int) -> int:
        """The token after i, or after the bracket that i opens."""
        return max(self.tokens[i].partner, i) + 1

    def seek(self, i: int, *texts: str) -> int:
        """The first token from i on that reads so and stands in no brackets that open after i; else the end."""
        while i < len(self.tokens) and self.tokens[i].text not in texts:
            i = self.skip(i)
        return i

    def after_angles(self, i: int) -> int:
        """The token after the > that matches the < at i."""
        depth = 0
        while i < len(self.tokens):
            text = self.tokens[i].text
            depth += (text == "<") - (text == ">")
            i = self.skip(i)
            if depth == 0:
                break
        return i

    def after_template(self, i: int) -> int:
        """The token after the template headers and attributes that begin at i, if any do."""
        while self.is_at(i, "template", "<") or self.is_at(i, "[["):
            i = self.skip(i) if self.is_at(i, "[[") else self.after_angles(i + 1)
        return i

    def split(self, i: int, j: int) -> list[tuple[int, int]]:
        """Tokens i to j cut at the commas that stand in no brackets or angles."""
        parts = []
        start, depth = i, 0
        while i < j:
            text = self.tokens[i].text
            depth += (text == "<") - (text == ">" and depth > 0)
            if text == "," and depth == 0:
                parts.append((start, i))
                start = i + 1
            i = self.skip(i)
        if start < j:
            parts.append((start, j))
        return parts

    # ---- editing

    def replace(self, i: int, j: int, text: str) -> None:
        """Puts `text` in place of tokens i to j (exclusive). Line breaks stay, so that lines keep their numbers; text
        that has some of its own is to end with a line marker."""
        start, end = self.tokens[i].start, self.tokens[j - 1].end
        if "\n" in text:
            self._add(_Edit(start, end, text))
            return
        self._add(_Edit(start, end, text + "\n" * self.text.count("\n", start, end)))

    def erase(self, i: int, j: int) -> None:
        self.replace(i, j, "")

    def insert_before(self, i: int, text: str) -> None:
        start = self.tokens[i].start
        self._add(_Edit(start, start, text))

    def insert_after(self, i: int, text: str) -> None:
        end = self.tokens[i].end
        self._add(_Edit(end, end, text))

    def edited(self, i: int, j: int) -> str:
        """Tokens i to j (exclusive) with the edits made so far, on one line."""
        if i >= j:
            return ""
        return " ".join(self._apply(self.tokens[i].start, self.tokens[j - 1].end).split())

    def result(self) -> str:
        return self._apply(0, len(self.text))

    def original_column(self, file: str, line: int, column: int) -> int:
        """Where a place in the result stands in the text as it came: edits before it on its line have moved it."""
        start = self._line_start(file, line)
        if start is None:
            return column
        at, left = start, column - 1
        for edit in self._edits_within(0, len(self.text)):
            if edit.end <= start:
                continue
            if edit.start < start:
                at = edit.end
            elif left <= edit.start - at:
                break
            elif "\n" in edit.text:
                at = edit.end
            else:
                left -= edit.start - at
                if left < len(edit.text):
                    return edit.start - start + 1
                at, left = edit.end, left - len(edit.text)
        column = at + left - start + 1
        return column if start + column <= self.text.find("\n", start) + 1 else 1

    def _line_start(self, file: str, line: int) -> int | None:
        """Where a line of a file begins in the text; None if it is not there."""
        ends = [position for position, _, _ in self._markers[1:]] + [len(self.text)]
        for (position, first, name), end in zip(self._markers, ends, strict=True):
            if name == file and line >= first:
                start = position
                for _ in range(line - first + 1):
                    start = self.text.find("\n", start, end) + 1
                    if start == 0:
                        break
                else:
                    return start
        return None

    def _add(self, edit: _Edit) -> None:
        bisect.insort(self._edits, edit, key=_Edit.order)

    def _edits_within(self, start: int, end: int) -> Iterator[_Edit]:
        """Those that count, in order: an edit within a stretch that another one replaces is void."""
        done = start
        for i in range(bisect.bisect_left(self._edits, (start, False, 0), key=_Edit.order), len(self._edits)):
            edit = self._edits[i]
            if edit.start > end:
                break
            if edit.start >= done and edit.end <= end:
                yield edit
                done = edit.end

    def _apply(self, start: int, end: int) -> str:
        parts = []
        for edit in self._edits_within(start, end):
            parts += [self.text[start : edit.start], edit.text]
            start = edit.end
        return "".join([*parts, self.text[start:end]])

    # ---- structure

    def _tokenize(self, hidden: Callable[[str], bool]) -> None:
        skipping = False
        for match in _TOKEN.finditer(self.text):
            kind = match.lastgroup
            assert kind is not None
            if kind == "directive":
                if marker := _LINE_MARKER.match(match.group()):
                    self._markers.append((match.start(), int(marker[1]), marker[2]))
                    skipping = hidden(marker[2])
            elif kind != "space" and not skipping:
                self._index[match.group()].append(len(self.tokens))
                self.tokens.append(Token(kind, match.group(), match.start(), match.end()))

    def _match_brackets(self) -> None:
        tokens, stack = self.tokens, list[int]()
        for i, token in enumerate(tokens):
            if token.kind != "punctuation":
                continue
            if token.text in ("(", "[", "{", "[["):
                stack.append(i)
            elif token.text in (")", "}"):
                while stack and tokens[stack[-1]].text != _OPENING[token.text]:
                    stack.pop()
                if stack:
                    self._pair(stack.pop(), i)
            elif token.text == "]" and stack:
                if tokens[stack[-1]].text == "[":
                    self._pair(stack.pop(), i)
                elif tokens[stack[-1]].text == "[[" and self.is_at(i + 1, "]") and tokens[i + 1].start == token.end:
                    self._pair(stack.pop(), i + 1)

    def _pair(self, i: int, j: int) -> None:
        self.tokens[i].partner, self.tokens[j].partner = j, i

    def _find_scopes(self) -> None:
        outer: list[tuple[str, int]] = []
        scope, statement, depth = NAMESPACE, 0, 0
        for i, token in enumerate(self.tokens):
            token.scope, token.statement, token.depth, token.level = scope, statement, depth, len(outer)
            match token.text:
                case "(":
                    depth += 1
                case ")":
                    depth = max(depth - 1, 0)
                    if depth == 0 and self.tokens[statement].text in ("if", "for", "while", "switch"):
                        statement = i + 1
                case "{":
                    outer.append((scope, depth))
                    scope, statement, depth = self._scope_opened(statement, i), i + 1, 0
                case "}":
                    scope, depth = outer.pop() if outer else (NAMESPACE, 0)
                    statement = i + 1
                case ";" if depth == 0:
                    statement = i + 1
                case ":" if self.tokens[i - 1].text in ("public", "private", "protected"):
                    statement = i + 1
                case ":" if scope == FUNCTION and self.tokens[statement].text in ("case", "default"):
                    statement = i + 1
                case "else" | "do":
                    statement = i + 1

    def _scope_opened(self, statement: int, brace: int) -> str:
        """What the braces at `brace`, in the statement from `statement` on, hold."""
        around = self.tokens[brace].scope
        head = self.texts(self.after_template(statement), brace)
        while head and head[0] in ("typedef", "static", "const", "inline", "constexpr", "constant"):
            head.pop(0)
        if head[:1] == ["namespace"] or head[:2] == ["extern", '"C"']:
            return NAMESPACE
        if head[:1] == ["enum"]:
            return OTHER
        if head[:1] and head[0] in ("struct", "class", "union"):
            returns_a_struct = ")" in head and "alignas" not in head and "__attribute__" not in head
            return FUNCTION if returns_a_struct else CLASS
        if around == FUNCTION:
            return FUNCTION
        return OTHER if head and head[-1] in _NOT_A_FUNCTION else FUNCTION
