"""Sequences of one length, cut from documents, without repetition and in an order that is a fair sample.

A document that is shorter than a sequence is joined with others, a longer one is cut, and an account is kept of both,
and of what is left out.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Int
from numpy.typing import NDArray

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Account:
    """Account of what became of documents: how many there are, how many were joined, and what is left out."""

    documents: int = 0
    tokens: int = 0
    joined: int = 0  # documents, each shorter than a sequence
    joints: int = 0  # sequences that these were joined to
    unused: int = 0  # documents of which no token is used
    unused_tokens: int = 0  # of all documents
    repeated: int = 0  # sequences that are there already
    cut: int = 0  # documents, each longer than a sequence

    def used(self, sequences: int, wanted: int | None) -> list[str]:
        """Say how much there was, how many sequences that gave, and how many of them are wanted.

        Nothing, where each document is one sequence, and no token more.
        """
        if not (self.cut or self.joined or self.unused_tokens):
            return []
        cut = f", {self.cut:,} of them longer than a sequence and cut" if self.cut else ""
        some = "" if wanted is None or wanted >= sequences else f", of which {wanted:,} are used"
        everything = f"{counted(self.documents, 'document')} of {counted(self.tokens, 'token')}{cut}"
        return [f"{everything}, gave {counted(sequences, 'sequence')}{some}"]

    def notes(self, length: int, between: str) -> list[str]:
        """Say what was joined and left out, if anything was; `between` is what stands between joined documents.

        `length` is how many tokens of its own a document needs, so as not to be joined with others.
        """
        found, everyone = [], counted(self.documents, "document")
        if self.joints:
            found.append(
                f"{self.joined:,} of {everyone} hold fewer than {length} tokens: joined to "
                f"{counted(self.joints, 'sequence')}, with {between} between, where nothing is scored"
            )
        if self.unused_tokens:
            short = f"{counted(self.unused, 'document')} too short for one, and " if self.unused else ""
            found.append(
                f"{self.unused_tokens:,} of {counted(self.tokens, 'token')} of {everyone} are left out: "
                f"{short}what is behind the last whole sequence"
            )
        if self.repeated:
            found.append(f"left out: {counted(self.repeated, 'sequence')} with the tokens of another")
        return found


def counted(count: int, what: str) -> str:
    """Write a number of things: `counted(1, "row")` is "1 row"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


@dataclass(frozen=True)
class Sequences:
    """Sequences of one length: their tokens, the document that each is cut from, and what may be scored.

    A sequence of joined documents belongs to the first of them; `within` are the positions that neither read nor
    predict what joins them.
    """

    tokens: Int[np.ndarray, "sequence position_plus_one"]
    documents: Int[np.ndarray, " sequence"]
    within: Bool[np.ndarray, "sequence position"]
    account: Account = field(default_factory=Account)

    def __len__(self) -> int:
        return len(self.tokens)

    def some(self, members: Sequence[int]) -> Sequences:
        """Choose some of them, by their numbers."""
        at = np.array(members, dtype=np.int64)
        return replace(self, tokens=self.tokens[at], documents=self.documents[at], within=self.within[at])

    def spread(self, count: int) -> tuple[Sequences, Sequences]:
        """Choose the first `count` of them of as many documents as can be, as few of each as that takes; and the rest.

        Sequences of one document are alike, so a number of more documents is surer. All of them, if there are no more.
        """
        before: Counter[int] = Counter()  # sequences of each document so far
        ranks = np.zeros(len(self), dtype=np.int64)
        for at, document in enumerate(self.documents.tolist()):
            ranks[at] = before[document]
            before[document] += 1
        given = np.bincount(ranks).cumsum()  # by at most so many of each document, and one more
        most = int(np.searchsorted(given, count)) if count <= len(self) else len(self)
        chosen = np.flatnonzero(ranks <= most)[:count]
        return self.some(chosen.tolist()), self.some(np.setdiff1d(np.arange(len(self)), chosen).tolist())

    def distinct(self) -> Sequences:
        """Leave out exact repetitions; the rest stand in the order of :func:`order_of_content`."""
        found = self.some(order_of_content(self.tokens))
        return replace(found, account=replace(self.account, repeated=len(self) - len(found)))


class Cutter:
    """Cuts documents into sequences of `context` positions and one token more: `Cutter(7, 0).add(0, ids)`.

    Each begins with the begin token, if that isn't None; one that stands in front of a document already is taken as
    such. Documents too short for one are joined, with the tokens of `joint` between; without any they are left out.
    """

    def __init__(self, context: int, begin: int | None, joint: Sequence[int] = ()) -> None:
        self.context, self.begin, self.joint = context, begin, tuple(joint)
        self.size = context + (begin is None)  # tokens of a sequence behind the begin token
        self.windows: list[Ids] = []
        self.documents: list[int] = []
        self.within: list[NDArray[np.bool_]] = []
        self._counts = dict.fromkeys(("documents", "tokens", "joined", "joints", "unused", "unused_tokens", "cut"), 0)
        self._current: int | None = None
        self._rest = np.zeros(0, dtype=np.int64)  # of the current document
        self._begun = self._cut = self._several = False  # whether the current document has tokens, sequences, several
        self._tokens: list[int] = []  # of short documents, to be cut together
        self._joins: list[bool] = []  # which of these join
        self._owners: list[int] = []
        self._carried = False  # whether some of the first of these documents is in a sequence already

    def add(self, document: int, ids: Ids) -> None:
        """Add a document, or more of the last one, if that has the same number."""
        if document != self._current:
            self._close()
            self._current = document
        if not self._begun and len(ids) and ids[0] == self.begin:
            ids = ids[1:]
        if not len(ids):
            return
        self._counts["documents"] += not self._begun
        self._counts["tokens"] += len(ids)
        self._begun = True
        whole = np.concatenate([self._rest, ids])
        count = len(whole) // self.size
        for window in whole[: count * self.size].reshape(count, self.size):
            self._keep(window, document, np.zeros(self.size, dtype=bool))
        self._several |= count > 1 or (self._cut and count > 0)
        self._cut |= count > 0
        self._rest = whole[count * self.size :]

    def finish(self) -> Sequences:
        """Give the sequences of all documents, repetitions included."""
        self._close()
        self._counts["unused"] += len(set(self._owners)) - bool(self._owners and self._carried)
        self._counts["unused_tokens"] += len(self._tokens) - sum(self._joins)
        some = len(self.windows) > 0
        tokens = np.stack(self.windows) if some else np.zeros((0, self.context + 1), dtype=np.int64)
        within = np.stack(self.within) if some else np.zeros((0, self.context), dtype=bool)
        return Sequences(tokens, np.array(self.documents, dtype=np.int64), within, Account(**self._counts))

    def _close(self) -> None:
        """End the current document."""
        if self._begun and self._current is not None:
            self._counts["cut"] += self._cut and (self._several or len(self._rest) > 0)
            if self._cut or not self.joint:
                self._counts["unused"] += not self._cut
                self._counts["unused_tokens"] += len(self._rest)
            else:
                self._join(self._current, self._rest)
        self._rest, self._begun, self._cut, self._several = self._rest[:0], False, False, False

    def _join(self, document: int, ids: Ids) -> None:
        """Add a short document to those that are cut together."""
        self._counts["joined"] += 1
        joint = self.joint if self._tokens else ()
        self._tokens += [*joint, *ids.tolist()]
        self._joins += [True] * len(joint) + [False] * len(ids)
        self._owners += [document] * (len(joint) + len(ids))
        while len(self._tokens) >= self.size:
            self._keep(np.array(self._tokens[: self.size]), self._owners[0], np.array(self._joins[: self.size]))
            self._counts["joints"] += 1
            last = next(self._owners[at] for at in reversed(range(self.size)) if not self._joins[at])
            cut = self.size
            while cut < len(self._tokens) and self._joins[cut]:
                cut += 1
            del self._tokens[:cut], self._joins[:cut], self._owners[:cut]
            self._carried = bool(self._owners) and self._owners[0] == last

    def _keep(self, window: Ids, document: int, joins: NDArray[np.bool_]) -> None:
        self.windows.append(with_begin(window[None], self.begin)[0])
        self.documents.append(document)
        joins = np.concatenate([np.zeros(int(self.begin is not None), dtype=bool), joins])
        self.within.append(~(joins[:-1] | joins[1:]))


def with_begin(windows: NDArray[np.integer], bos_token_id: int | None) -> Ids:
    """Put a begin token, unless that is None, in front of windows [count, n_ctx]: int64 [count, n_ctx + 1]."""
    begin = np.full((len(windows), 0 if bos_token_id is None else 1), bos_token_id or 0, dtype=np.int64)
    return np.concatenate([begin, windows], axis=1, dtype=np.int64)


def order_of_content(windows: Sequence[Ids] | Ids) -> list[int]:
    """Order windows by a hash of their tokens, without exact repetitions: their numbers.

    The order doesn't depend on where the windows came from, so the first N of them are a fair sample of all.
    """
    keyed = {hashlib.blake2b(window.tobytes(), digest_size=16).digest(): at for at, window in enumerate(windows)}
    return [keyed[key] for key in sorted(keyed)]
