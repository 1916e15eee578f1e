"""Translation edit rate (Snover et al. 2006): edits, including shifts of words, over reference words.

- tercom 7.25, of the official WebNLG 2017 and DART scripts: its greedy search and beam are reimplemented here, since sacrebleu's
  differ by some edits in 1 of 500 outputs.
- pyter 0.3, of the LoRA paper's scripts: the package itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

LONGEST, FARTHEST = 10, 50  # most words in a shift; the longest distance of a shift
BEAM = 20  # the alignment continues from cells at most this much worse than the row's best match or substitution
FAR = 10**9

Row = list[int]


class Shift(NamedTuple):
    """Moves words start..end of the output behind its word `after` (-1: to the front)."""

    start: int
    end: int
    after: int

    def apply(self, words: list[str]) -> list[str]:
        """The words in their new order. If `after` is one of the moved words, they move on by after - start words."""
        start, end, after = self
        piece = words[start : end + 1]
        if after < start:
            return words[: after + 1] + piece + words[after + 1 : start] + words[end + 1 :]
        stop = after + 1 if after > end else end + 1 + after - start
        return words[:start] + words[end + 1 : stop] + piece + words[stop:]


def _rows(words: list[str], reference: list[str], first_rows: list[Row]) -> list[Row]:
    """Edit distances: one row per prefix of 0, 1, ... output words, one column per prefix of the reference.

    first_rows: of another order of the words with the same beginning. A cell outside the beam is FAR; the last row has no beam.
    """
    rows = first_rows or [list(range(len(reference) + 1))]
    for number in range(len(rows), len(words) + 1):
        word, above = words[number - 1], rows[-1]
        across = [cost + (word != other) for cost, other in zip(above, reference, strict=False)]
        limit = FAR if number == len(words) else min(across, default=FAR) + BEAM
        left, row = above[0] + 1, []
        left = left if left <= limit else FAR
        row.append(left)
        for diagonal, up in zip(across, above[1:], strict=True):
            left = min(diagonal, up + 1, left + 1)
            if left > limit:
                left = FAR
            row.append(left)
        rows.append(row)
    return rows


class _Alignment(NamedTuple):
    """Which words of output and reference are wrong, and the last output word at or before each reference word."""

    output_wrong: list[bool]
    reference_wrong: list[bool]
    place: list[int]


def _alignment(words: list[str], reference: list[str], rows: list[Row]) -> _Alignment:
    """The best path, traced from its end. Of equal ones a match or substitution is preferred, then a word of the output alone."""
    row, column = len(words), len(reference)
    alignment = _Alignment([True] * row, [True] * column, [0] * column)
    while row or column:
        cost = rows[row][column]
        same = bool(row and column) and words[row - 1] == reference[column - 1]
        if row and column and cost == rows[row - 1][column - 1] + (not same):
            alignment.output_wrong[row - 1] = alignment.reference_wrong[column - 1] = not same
            alignment.place[column - 1] = row - 1
            row, column = row - 1, column - 1
        elif row and cost == rows[row - 1][column] + 1:
            row -= 1
        else:
            alignment.place[column - 1] = row - 1
            column -= 1
    return alignment


def _places(words: list[str], reference: list[str]) -> dict[tuple[str, ...], list[int]]:
    """The positions at which each sequence of reference words begins, for sequences whose words are all in the output."""
    vocabulary, places = set(words), dict[tuple[str, ...], list[int]]()
    for start in range(len(reference)):
        for end in range(start, min(start + LONGEST, len(reference))):
            if reference[end] not in vocabulary:
                break
            places.setdefault(tuple(reference[start : end + 1]), []).append(start)
    return places


def _shifts(words: list[str], places: dict[tuple[str, ...], list[int]], alignment: _Alignment) -> list[list[Shift]]:
    """The shifts that tercom tries, indexed by length - 1, in its order.

    Each moves output words, not all of them right, to a place where the reference has the same words, not all matched.
    """
    wrong, reference_wrong, place = alignment
    shifts: list[list[Shift]] = [[] for _ in range(LONGEST)]
    for start, word in enumerate(words):
        near = (place[position] for position in places.get((word,), ()))
        if not any(to != start and -FARTHEST - 1 <= to - start <= FARTHEST for to in near):
            continue
        for end in range(start, min(start + LONGEST, len(words))):
            length, longer = end - start + 1, not any(wrong[start : end + 1])
            ats = places.get(tuple(words[start : end + 1]))
            if ats is None:
                break
            for position in [] if longer else ats:
                if start <= place[position] <= end or abs(place[position] - start) > FARTHEST:
                    continue
                longer = True
                if any(reference_wrong[position : position + length]):
                    shifts[length - 1] += _targets(start, end, position, place)
            if not longer:
                break
    return shifts


def _targets(start: int, end: int, target: int, place: list[int]) -> list[Shift]:
    """The shifts of start..end to the reference words from `target` on: before the first one, and behind each."""
    shifts = []
    for offset in range(-1, end - start + 1):
        if offset == -1 and target == 0:
            shifts.append(Shift(start, end, -1))
        elif place[target + offset] != start and (offset == 0 or place[target + offset] != place[target]):
            shifts.append(Shift(start, end, place[target + offset]))
    return shifts


def tercom_edits(words: list[str], reference: list[str]) -> int:
    """Edits from an output to one reference: the best shift, as one edit, as long as one does not raise the total; then the
    edit distance.

    Longer shifts are tried first, until a length cannot improve on the best one: each moved word saves at most two edits.
    """
    places, shifts, rows = _places(words, reference), 0, _rows(words, reference, [])
    while (edits := rows[-1][-1]) > 0:
        best: tuple[list[str], list[Row]] | None = None
        gain = 0  # of the best shift: edits before it − edits after it − 1
        cache: dict[tuple[str, ...], list[Row]] = {}
        for length, candidates in reversed(list(enumerate(_shifts(words, places, _alignment(words, reference, rows)), start=1))):
            if gain > 2 * length or (best and gain == 2 * length):
                break
            for shift in candidates:
                if gain > 2 * length or (best and gain == 2 * length):
                    break
                new_words = shift.apply(words)
                same = min(shift.start, shift.after + 1)
                if tuple(new_words) not in cache:
                    cache[tuple(new_words)] = _rows(new_words, reference, rows[: same + 1])
                after = cache[tuple(new_words)]
                better = edits - after[-1][-1] - 1
                if better > gain or (best is None and better == 0):
                    best, gain = (new_words, after), better
        if best is None:
            break
        (words, rows), shifts = best, shifts + 1
    return shifts + edits


def tercom(output: str, references: Sequence[str]) -> tuple[float, float]:
    """(fewest edits to a reference, average number of reference words); corpus TER is the sum of the first over the second.

    An empty text is one empty word, as Java splits it.
    """
    words, groups = output.split() or [""], [reference.split() or [""] for reference in references]
    edits = min(tercom_edits(words, reference) for reference in groups)
    return float(edits), sum(map(len, groups)) / len(groups)


def pyter(output: str, references: Sequence[str]) -> tuple[float, float]:
    """(smallest edit rate over the references, 1.0): corpus TER is a plain mean. An empty reference has rate 1."""
    from pyter import ter

    words = output.split()
    rates = [ter(words, reference.split()) if reference else 1.0 for reference in dict.fromkeys(references)]
    return float(min(rates)), 1.0
