"""A radix tree of token sequences, which finds the stored one that shares most with a prompt.

Sequences are `Tokens`: 32-bit numbers as bytes, so that comparisons take microseconds.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Tokens = bytes
"""Tokens as 32-bit numbers in the byte order of this machine."""

WIDTH = array("i").itemsize
"""Bytes of one token."""

_Value = TypeVar("_Value")


def as_tokens(numbers: Iterable[int]) -> Tokens:
    """Return the tokens with these numbers."""
    return array("i", numbers).tobytes()


def count_shared(first: Tokens, second: Tokens) -> int:
    """Return the length of the common prefix in tokens."""
    most = min(len(first), len(second)) // WIDTH
    if first[: most * WIDTH] == second[: most * WIDTH]:
        return most
    least = 0
    while most - least > 1:  # the first `least` tokens are equal, the first `most` are not
        middle = (least + most) // 2
        if first[least * WIDTH : middle * WIDTH] == second[least * WIDTH : middle * WIDTH]:
            least = middle
        else:
            most = middle
    return least


@dataclass(slots=True)
class _Node(Generic[_Value]):
    """A node with the tokens that lead to it from its parent."""

    edge: Tokens
    value: _Value | None = None
    children: dict[Tokens, _Node[_Value]] = field(default_factory=dict)

    def values(self) -> Iterator[_Value]:
        """Yield the values of this node and of all below, those with fewer tokens first on each path."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            if node.value is not None:
                yield node.value
            waiting += node.children.values()


class PrefixIndex(Generic[_Value]):
    """Values by token sequence; a sequence has at most one."""

    def __init__(self) -> None:
        self._root: _Node[_Value] = _Node(b"")

    def get(self, tokens: Tokens) -> _Value | None:
        """Return the value of exactly these tokens."""
        path, left, inside = self._descend(tokens)
        return None if left or inside else path[-1].value

    def add(self, tokens: Tokens, value: _Value) -> None:
        """Set the value of these tokens."""
        path, left, inside = self._descend(tokens)
        node = path[-1]
        if inside:
            node = self._split(path[-2], node, inside)
        if left:
            child: _Node[_Value] = _Node(left)
            node.children[left[:WIDTH]] = child
            node = child
        node.value = value

    def remove(self, tokens: Tokens) -> None:
        """Remove the value of these tokens, which must have one."""
        path, left, inside = self._descend(tokens)
        if left or inside or path[-1].value is None:
            raise KeyError("no value for these tokens")
        path[-1].value = None
        while len(path) > 1 and path[-1].value is None and len(path[-1].children) < 2:
            node, parent = path.pop(), path[-1]
            key = node.edge[:WIDTH]
            if not node.children:
                del parent.children[key]
                continue
            (child,) = node.children.values()
            child.edge = node.edge + child.edge
            parent.children[key] = child
            break

    def matches(self, prompt: Tokens) -> Iterator[tuple[int, _Value]]:
        """Yield values with the number of tokens that they share with `prompt`, in decreasing order.

        First those that share most, then those whose tokens are a shorter prefix of the prompt.
        """
        path, left, inside = self._descend(prompt)
        count = (len(prompt) - len(left)) // WIDTH
        if count:
            for value in path[-1].values():
                yield count, value
        count -= (inside or len(path[-1].edge)) // WIDTH
        for node in path[-2:0:-1]:
            if node.value is not None:
                yield count, node.value
            count -= len(node.edge) // WIDTH

    def branches(self, prefix: Tokens) -> int:
        """Return in how many ways stored sequences continue after exactly this prefix."""
        path, left, inside = self._descend(prefix)
        return 0 if left else 1 if inside else len(path[-1].children)

    def _descend(self, tokens: Tokens) -> tuple[list[_Node[_Value]], Tokens, int]:
        """Return the nodes from the root as far as they match `tokens`, and the tokens that are left.

        The number is how many bytes of the last node's edge match if these are not all, else 0.
        """
        path, node = [self._root], self._root
        while tokens and (child := node.children.get(tokens[:WIDTH])) is not None:
            path.append(child)
            matched = count_shared(child.edge, tokens) * WIDTH
            tokens = tokens[matched:]
            if matched < len(child.edge):
                return path, tokens, matched
            node = child
        return path, tokens, 0

    def _split(self, parent: _Node[_Value], node: _Node[_Value], length: int) -> _Node[_Value]:
        """Return a new node after the first `length` bytes of the edge between `parent` and `node`."""
        upper: _Node[_Value] = _Node(node.edge[:length])
        parent.children[upper.edge[:WIDTH]] = upper
        node.edge = node.edge[length:]
        upper.children[node.edge[:WIDTH]] = node
        return upper
