"""Which rendezvous only a part of the threads may reach, because others have left before.

A conservative analysis of one function: what it calls divergent is so unless a launch of a special shape prevents it;
what it does not understand it takes for uniform.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum

from deltamoe_sim.syntax import Node, Place


class Level(IntEnum):
    """Among which threads a value, or the way taken through the code, may differ."""

    UNIFORM = 0
    SIMDGROUP = 1
    """From one simdgroup of a threadgroup to the other."""
    LANE = 2
    """Within a simdgroup."""


POSITION_LEVELS = {
    "thread_position_in_grid": Level.LANE,
    "thread_position_in_threadgroup": Level.LANE,
    "thread_index_in_threadgroup": Level.LANE,
    "thread_index_in_simdgroup": Level.LANE,
    "thread_index_in_quadgroup": Level.LANE,
    "quadgroup_index_in_threadgroup": Level.LANE,
    "simdgroup_index_in_threadgroup": Level.SIMDGROUP,
}
"""Of kernel parameters by attribute; all others are the same for a threadgroup."""

_SIMD_WIDTH = 32
_BRANCH_TOLERANT = frozenset(
    {"simd_active_threads_mask", "simd_all", "simd_any", "simd_ballot", "simd_broadcast_first", "simd_is_first"}
)
"""Made for the lanes that happen to be there."""
_KEEPS_LANES_APART = ("simd_prefix", "simd_shuffle", "quad_shuffle", "quad_broadcast", "quad_sum", "quad_m", "quad_p")
_ASSIGNMENTS = frozenset({"=", "+=", "-=", "*=", "|=", "&=", "^=", "%="})
_COMPARISONS = frozenset({"<", "<=", ">", ">="})
_SIMPLE = frozenset({"DeclRefExpr", "MemberExpr", "IntegerLiteral", "FloatingLiteral"})
_WRAPPERS = frozenset(
    {
        "CStyleCastExpr",
        "CXXFunctionalCastExpr",
        "CXXStaticCastExpr",
        "ConstantExpr",
        "ImplicitCastExpr",
        "ParenExpr",
        "SubstNonTypeTemplateParmExpr",
    }
)
_LOOPS = frozenset({"ForStmt", "WhileStmt", "DoStmt"})


def rendezvous_level(name: str) -> Level | None:
    """How far ways may part before a call of this function of Metal's goes wrong; None if it needs no company."""
    if name == "threadgroup_barrier":
        return Level.SIMDGROUP
    if name.startswith(("simd_", "quad_", "simdgroup_")) and name not in _BRANCH_TOLERANT:
        return Level.LANE
    return None


@dataclass(frozen=True)
class Finding:
    """A rendezvous that some threads may miss."""

    name: str
    place: Place
    level: Level


def divergent_rendezvous(
    function: Node, positions: Mapping[str, Level], helpers: Mapping[str, Level]
) -> Iterator[Finding]:
    """The rendezvous of a function that come after a divergent return, or, in a loop, a divergent break or continue.

    Args:
        positions: levels of parameters by name.
        helpers: by id, the functions of the user's that hold a rendezvous, and what `rendezvous_level` says of it.
    """
    body = function.body
    if body is not None:
        scan = _Scan(_Values(function, positions), helpers)
        scan.statement(body, _Way())
        yield from scan.found.values()


class _Values:
    """Levels of the expressions of a function."""

    def __init__(self, function: Node, positions: Mapping[str, Level]) -> None:
        self._positions = {
            child.id: positions[child.name]
            for child in function.children
            if child.kind == "ParmVarDecl" and child.name in positions
        }
        self._variables = dict(self._positions)
        self._constants: dict[str, int] = {}
        nodes = list(function.walk())
        for node in nodes:
            if node.kind == "VarDecl" and "const " in node.type and node.children:
                value = self._constant(node.children[-1])
                if value is not None:
                    self._constants[node.id] = value
        changed = True
        while changed:
            changed = sum(map(self._note, nodes)) > 0

    def level(self, node: Node) -> Level:
        """Of an expression's value."""
        match node.kind:
            case "DeclRefExpr":
                return self._variables.get(node.referenced, Level.UNIFORM)
            case "MemberExpr" | "MSPropertyRefExpr":
                whole = _object(node.children[0])
                # The other dimensions of a threadgroup are often the same for all that meet.
                is_other_dimension = whole.referenced in self._positions and node.referenced_name != "x"
                return Level.UNIFORM if is_other_dimension else self.level(whole)
            case "BinaryOperator" | "CXXOperatorCallExpr":
                return self._operator(node)
            case "CallExpr" | "CXXMemberCallExpr":
                return self._call(node)
            case "LambdaExpr":
                return Level.UNIFORM
        return self._largest(node.children)

    def _largest(self, nodes: list[Node]) -> Level:
        return max(map(self.level, nodes), default=Level.UNIFORM)

    def _operator(self, node: Node) -> Level:
        operator = _operator_of(node)
        operands = node.children[-2:]
        level = self._largest(operands)
        if operator in ("/", ">>"):
            return Level.UNIFORM  # the row of a thread, say: perhaps the same for a simdgroup or for all
        if operator in _COMPARISONS and level == Level.LANE:
            return self._comparison(operands)
        return level

    def _comparison(self, operands: list[Node]) -> Level:
        """Against a multiple of the simdgroup's width, or what may be one, all lanes compare alike."""
        for operand in operands:
            if self.level(operand) != Level.LANE:
                value = self._constant(operand)
                is_simple = _stripped(operand).kind in _SIMPLE
                if not is_simple or (value is not None and value % _SIMD_WIDTH == 0):
                    return Level.SIMDGROUP
        return Level.LANE

    def _call(self, node: Node) -> Level:
        callee = node.callee()
        name = callee.referenced_name if callee is not None else ""
        level = self._largest(node.children[1:])
        if name.startswith(_KEEPS_LANES_APART):
            return level
        if name.startswith(("simd_", "quad_")):
            return min(level, Level.SIMDGROUP)
        if name.startswith("atomic_"):
            return Level.LANE
        # Of Metal's functions only the elementary ones are known to keep values apart; the user's may do anything.
        return level if name in ("min", "max", "clamp", "abs", "select") else Level.UNIFORM

    def _constant(self, node: Node) -> int | None:
        inner = _stripped(node)
        if inner.kind == "IntegerLiteral":
            return int(inner["value"])
        return self._constants.get(inner.referenced)

    def _note(self, node: Node) -> bool:
        """Takes down what a declaration or an assignment gives a variable; whether that is news."""
        if node.kind == "VarDecl" and node.children:
            target, level = node, self.level(node.children[-1])
            variable, is_private = target.id, "__local" not in target.type
        elif node.kind in ("BinaryOperator", "CompoundAssignOperator") and node["opcode"] in _ASSIGNMENTS:
            root = next((n for n in node.children[0].walk() if n.kind == "DeclRefExpr"), None)
            if root is None:
                return False
            level = self.level(node.children[1])
            variable, is_private = root.referenced, "__private" in root.type and "*" not in root.type
        else:
            return False
        if not is_private or level <= self._variables.get(variable, Level.UNIFORM):
            return False
        self._variables[variable] = level
        return True


@dataclass(frozen=True)
class _Way:
    """How far the ways of the threads that reach a statement have parted."""

    branch: Level = Level.UNIFORM
    """By the conditions around it."""
    branch_in_loop: Level = Level.UNIFORM
    """By those within the innermost loop."""
    returned: Level = Level.UNIFORM
    """By threads that have left the function."""
    left: Level = Level.UNIFORM
    """By threads that have left the innermost loop."""
    skipped: Level = Level.UNIFORM
    """By threads that have gone on to its next turn."""
    in_switch: bool = False
    """Whether a break leaves a switch, to no effect."""

    def under(self, condition: Level) -> _Way:
        return replace(self, branch=max(self.branch, condition), branch_in_loop=max(self.branch_in_loop, condition))

    def after(self, *ways: _Way) -> _Way:
        """The way after statements that were entered from here."""
        ways = (self, *ways)
        return replace(
            self,
            returned=max(way.returned for way in ways),
            left=max(way.left for way in ways),
            skipped=max(way.skipped for way in ways),
        )

    @property
    def missing(self) -> Level:
        return max(self.returned, self.left, self.skipped)


class _Scan:
    """A walk along the statements of a function."""

    def __init__(self, values: _Values, helpers: Mapping[str, Level]) -> None:
        self._values = values
        self._helpers = helpers
        self.found: dict[str, Finding] = {}

    def statement(self, node: Node, way: _Way) -> _Way:
        """The way after a statement or expression that is reached by `way`."""
        match node.kind:
            case "ReturnStmt":
                way = self._in_order(node.children, way)
                return replace(way, returned=max(way.returned, way.branch))
            case "BreakStmt":
                return way if way.in_switch else replace(way, left=max(way.left, way.branch_in_loop))
            case "ContinueStmt":
                return replace(way, skipped=max(way.skipped, way.branch_in_loop))
            case "IfStmt":
                condition, *branches = node.children
                way = self.statement(condition, way)
                under = way.under(self._values.level(condition))
                return way.after(*(self.statement(branch, under) for branch in branches))
            case "SwitchStmt":
                under = replace(way.under(self._values.level(node.children[0])), in_switch=True)
                return way.after(self._in_order(node.children, under))
            case "LambdaExpr":
                return way
            case kind if kind in _LOOPS:
                return self._loop(node, way)
        way = self._in_order(node.children, way)
        self._call(node, way)
        return way

    def _in_order(self, nodes: list[Node], way: _Way) -> _Way:
        for node in nodes:
            way = way.after(self.statement(node, way))
        return way

    def _loop(self, node: Node, way: _Way) -> _Way:
        """Whoever leaves in one turn is missing in the next, so the body is walked along twice."""
        inside = replace(way, branch_in_loop=Level.UNIFORM, in_switch=False)
        once = self._in_order(node.children, inside)
        twice = self._in_order(node.children, replace(once, skipped=way.skipped))
        return replace(way, returned=twice.returned)

    def _call(self, node: Node, way: _Way) -> None:
        callee = node.callee() if node.kind in ("CallExpr", "CXXMemberCallExpr") else None
        if callee is None:
            return
        needed = self._helpers.get(callee.referenced, rendezvous_level(callee.referenced_name))
        if needed is not None and way.missing >= needed:
            self.found.setdefault(node.id, Finding(callee.referenced_name, node.place, way.missing))


def _operator_of(node: Node) -> str:
    if node.kind == "BinaryOperator":
        return str(node["opcode"])
    callee = node.callee()
    return callee.referenced_name.removeprefix("operator") if callee is not None else ""


def _stripped(node: Node) -> Node:
    """Without casts, parentheses and substituted template parameters around it."""
    while node.kind in _WRAPPERS and node.children:
        node = node.children[-1]
    return node


def _object(node: Node) -> Node:
    """What the components of a vector are members of: they lie in unnamed unions and structures."""
    node = _stripped(node)
    while node.kind == "MemberExpr" and not node.name.removeprefix(".").removeprefix("->"):
        node = _stripped(node.children[0])
    return node
