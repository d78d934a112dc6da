"""Writes metal/**/*.h into a C++ source, as text that Metal's compiler takes at run time: each header that is no part
of metal/common with its includes in their place, once each.

    python embed.py METAL_FOLDER OUTPUT.cpp
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

INCLUDE = re.compile(r'#include "(.+)"\s*')


def inlined(path: Path, root: Path, seen: set[Path]) -> list[str]:
    """The lines of a header and of all it includes. #line keeps a compiler's messages at the lines of the files."""
    seen.add(path)
    name = path.relative_to(root.parent).as_posix()
    text = path.read_text()
    if not text.isascii():
        raise SystemExit(f"embed.py: {name} is not ASCII, and Metal's compiler is given ASCII")
    lines = [f'#line 1 "{name}"']
    for number, line in enumerate(text.splitlines(), 1):
        if include := INCLUDE.fullmatch(line):
            other = (path.parent / include[1]).resolve()
            lines += [] if other in seen else inlined(other, root, seen)
            lines.append(f'#line {number + 1} "{name}"')
        else:
            lines.append("" if line == "#pragma once" else line)
    return lines


def main(root: Path, output: Path) -> None:
    """Write the C++ source."""
    entries = []
    for path in sorted(root.rglob("*.h")):
        name = path.relative_to(root).with_suffix("").as_posix()
        if not name.startswith("common/"):
            text = "\n".join(inlined(path, root, set())) + "\n"
            digest = hashlib.sha256(text.encode()).hexdigest()[:16]
            entries.append(f'    {{"{name}", {{"{digest}", R"metal({text})metal"}}}},\n')
    output.write_text(
        "// Made by csrc/metal/embed.py out of metal/.\n"
        '#include "metal/sources.h"\n\n'
        "namespace deltamoe::metal {\n\n"
        f"const std::map<std::string, Source> kSources = {{\n{''.join(entries)}}};\n\n"
        "}  // namespace deltamoe::metal\n"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
