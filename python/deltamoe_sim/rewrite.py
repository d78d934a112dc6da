"""Rewrites of a shader's text where clang's C++ for OpenCL lacks or refuses what Metal's C++ has: one function each."""

from __future__ import annotations

import re

from deltamoe_sim.tokens import CLASS, FUNCTION, Source


def rewrite_dialect(source: Source) -> None:
    """All of them; source.py does those that find out something about the shader."""
    rewrite_literals(source)
    rewrite_casts(source)
    rewrite_strings(source)
    rewrite_function_template_parameters(source)
    rewrite_method_spaces(source)
    rewrite_local_constants(source)
    rewrite_scalar_references(source)


def rewrite_literals(source: Source) -> None:
    """`1.5` is a float in Metal, to clang a double. For `1.5bf` clang has no suffix; `1h` it wants with a point."""
    for i in source.of_kind("number"):
        match = _FLOATING.fullmatch(source.tokens[i].text)
        if match is None:
            continue
        is_floating = any(match[part] for part in ("point", "leading", "exponent", "binary"))
        if not is_floating and not match["suffix"]:
            continue
        digits = match["digits"] + ("" if is_floating else ".0")
        match match["suffix"].lower():
            case "":
                source.replace(i, i + 1, f"{digits}f")
            case "h":
                source.replace(i, i + 1, f"{digits}h")
            case "bf":
                source.replace(i, i + 1, f"bfloat({digits}f)")


_FLOATING = re.compile(
    r"(?P<digits>(?:\d+(?P<point>\.\d*)?|(?P<leading>\.)\d+)(?P<exponent>[eE][+-]?\d+)?"
    r"|0[xX][\da-fA-F]*\.?[\da-fA-F]*(?P<binary>[pP][+-]?\d+))(?P<suffix>h|H|bf|BF|)"
)


def rewrite_casts(source: Source) -> None:
    """`static_cast<T>(x)` to a value: clang refuses it between half and bfloat."""
    for i in source.find("static_cast"):
        to = source.texts(i + 1, source.after_angles(i + 1))
        if "*" not in to and "&" not in to:
            source.replace(i, i + 1, "metalsim::value_cast")


def rewrite_strings(source: Source) -> None:
    """A string given to a function can only be for a log, which is dropped; clang's strings are in the wrong address
    space for it."""
    for i in source.of_kind("string"):
        is_argument = source.is_at(i - 1, "(") or source.is_at(i - 1, ",")
        if source.tokens[i].text[0] == '"' and is_argument and not _is_for_the_compiler(source, i):
            source.replace(i, i + 1, "nullptr")


def _is_for_the_compiler(source: Source, i: int) -> bool:
    words = source.texts(source.tokens[i].statement, i)
    return not {"static_assert", "asm", "__asm__", "host_name", "__attribute__"}.isdisjoint(words)


def rewrite_function_template_parameters(source: Source) -> None:
    """`template <R (*f)(A)>`: clang cannot bind a function there in this mode; to `auto f` it can."""
    aliases = set()
    for i in source.find("*"):
        if not source.is_at(i - 1, "("):
            continue
        statement = source.tokens[i].statement
        using = source.after_template(statement)
        if source.is_at(using, "using") and source.is_at(i + 1, ")", "("):
            aliases.add(source.tokens[using + 1].text)
        elif source.is_at(statement, "template") and source.is_at(i + 2, ")", "("):
            end = source.tokens[i + 3].partner + 1
            if source.is_at(end, ",") or source.is_at(end, ">"):
                source.replace(_parameter_start(source, i - 1), end, f"auto {source.tokens[i + 1].text}")
    for i in source.find(*aliases):
        end = source.after_angles(i + 1) if source.is_at(i + 1, "<") else i + 1
        in_header = source.is_at(i - 1, ",") or source.is_at(i - 1, "<")
        if in_header and source.is_at(source.tokens[i].statement, "template") and source.tokens[end].kind == "word":
            source.replace(i, end, "auto")


def _parameter_start(source: Source, i: int) -> int:
    while not (source.is_at(i - 1, ",") or source.is_at(i - 1, "<")):
        i -= 1
    return i


def rewrite_method_spaces(source: Source) -> None:
    """Methods: one that names no address space takes objects in thread memory only, where clang would take any.
    A constructor builds its object in thread memory and needs no qualifier. `device` cannot stand there, so it is
    `__global`, and so is `constant`, unless the class has both."""
    for i in source.find(")"):
        token = source.tokens[i]
        if token.scope != CLASS or token.depth != 1 or token.partner < token.statement:
            continue
        is_constructor = _method(source, token.partner)
        if is_constructor is None:
            continue
        after = i + 1
        while source.texts(after, after + 1) in (["const"], ["volatile"]):
            after += 1
        if source.is_at(after, "device"):
            source.replace(after, after + 1, "__global")
        elif source.is_at(after, "constant"):
            source.replace(after, after + 1, "__constant" if _has_device_methods(source, i) else "__global")
        elif source.is_at(after, "thread") and is_constructor:
            source.erase(after, after + 1)
        elif not is_constructor and source.texts(after, after + 1)[0] in ("{", ";", ":", "->", "noexcept", "override"):
            source.insert_before(after, " thread ")


def _method(source: Source, opening: int) -> bool | None:
    """Of the member function whose parameters open there: whether it is a constructor. None if there is none such."""
    tokens = source.tokens
    start = source.after_template(tokens[opening].statement)
    head = source.texts(start, opening)
    if not head or not {"static", "friend", "typedef", "using", "static_assert"}.isdisjoint(head):
        return None
    if parameter_list(source, start) != opening:
        return None
    if "operator" in head:
        return False
    if tokens[opening - 1].kind != "word":
        return None
    before = opening - 2
    if before < start or tokens[before].text in ("constexpr", "explicit", "inline", "~", "]"):
        return True
    return source.is_at(before, ")") and source.is_at(tokens[before].partner - 1, "__attribute__")


def _has_device_methods(source: Source, i: int) -> bool:
    """Whether the class that token i stands in has methods for objects in device memory."""
    opening = i
    while not (source.is_at(opening, "{") and source.tokens[opening].partner > i):
        opening -= 1
    return any(
        source.is_at(j, "device")
        and source.texts(j - 1, j) in ([")"], ["const"])
        and source.tokens[j + 1].text in "{:;"
        for j in range(opening, source.tokens[opening].partner)
    )


def parameter_list(source: Source, i: int) -> int:
    """The parenthesis that opens the parameter list of the function declared from i on; -1 if it is no function."""
    while i < len(source.tokens):
        if source.is_at(i, "("):
            return i
        if source.is_at(i, "operator"):
            i = source.seek(i + (3 if source.is_at(i + 1, "(", ")") else 1), "(", ";")
            continue
        if source.is_at(i, "=") or source.is_at(i, ";"):
            return -1
        passes_over = source.tokens[i].text in (
            "decltype",
            "alignas",
            "__attribute__",
            "sizeof",
            "noexcept",
            "explicit",
        )
        i = source.skip(i + 1) if passes_over and source.is_at(i + 1, "(") else source.skip(i)
    return -1


def rewrite_local_constants(source: Source) -> None:
    """`constexpr constant int n = 4;` in a function: clang has no such variables in an address space."""
    for i in source.find("constant"):
        token = source.tokens[i]
        if token.scope != FUNCTION or token.depth:
            continue
        end = source.seek(i, ";", "=", "{", "(", ")")
        words = source.texts(token.statement, end)
        is_variable = source.texts(end, end + 1) in ([";"], ["="], ["{"])
        if is_variable and {"*", "&", "static", "using", "typedef"}.isdisjoint(words):
            source.erase(i, i + 1)


def rewrite_scalar_references(source: Source) -> None:
    """`const thread int& n` takes a temporary in Metal; in clang only a reference without address space does."""
    scalars = "bool|char|uchar|short|ushort|int|uint|long|ulong|size_t|u?int(?:8|16|32|64)_t|half|bfloat|float"
    for i in source.find("thread"):
        before, after = source.texts(i - 1, i), source.texts(i + 1, i + 4)
        if after[:1] == ["const"]:
            after = after[1:]
        elif before != ["const"]:
            continue
        if len(after) >= 2 and re.fullmatch(scalars, after[0]) and after[1] == "&":
            source.erase(i, i + 1)


def erase_attributes(source: Source) -> None:
    """[[...]]: what they say has been read; clang's own stay."""
    for i in source.find("[["):
        if source.tokens[i].partner > 0 and not source.is_at(i + 1, "clang"):
            source.erase(i, source.tokens[i].partner + 1)
