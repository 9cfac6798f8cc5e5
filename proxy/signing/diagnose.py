"""Which part of a signed request differs: one known deviation after another, then two together, until the signature
comes out.

A hash tells nothing about what is nearly right, so this is a search, and it is bounded in work. What it finds is
certain: no other bytes give that signature. What it does not find may be a deviation nobody has thought of, a key that
is not at hand, or three deviations at once.
"""

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import combinations
from typing import Any, Final

from proxy.addresses import BaseUrl
from proxy.headers import value_of
from proxy.signing.algorithms import DIGESTS, recovered
from proxy.signing.binding import Binding, Values
from proxy.signing.decoding import Written, written
from proxy.signing.guess import AtHand, Guess, Reseal
from proxy.signing.guesses import guesses, rare_guesses
from proxy.signing.profile import Signature
from proxy.signing.reading import Deviation, Presented, Reading, reading
from proxy.signing.template import Template

Explanation = tuple[Deviation, ...]
WORK: Final = 400_000
"""Strings that are tried at most, each with a kilobyte of body counted as one more: some seconds."""
_HMACS: Final = {20: "sha1", 28: "sha224", 32: "sha256", 48: "sha384", 64: "sha512"}


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`plain` can be seen in the request itself. `explanations` are of the signature, the smallest alone: more than
    one are all of the same size, and any of them can be true. None, and not `signed`: it could not be explained.
    """

    signed: bool
    plain: tuple[Deviation, ...] = ()
    explanations: tuple[Explanation, ...] = ()
    hint: Deviation | None = None
    """Where to look when nothing explains it."""
    complete: bool = True
    """Was all tried? False: the work's bound was met before."""

    @property
    def right(self) -> bool:
        return self.signed and not self.plain

    @property
    def deviations(self) -> Explanation:
        """The plain ones and those of the first explanation."""
        first = self.explanations[0] if self.explanations else ()
        return (*self.plain, *first, *((self.hint,) if self.hint else ()))


def diagnose(binding: Binding, base: BaseUrl, presented: Presented, at_hand: AtHand, work: int = WORK) -> Diagnosis:
    """`binding` and `base`: the route's. `work` 0 tries the usual single deviations alone: milliseconds, for a way
    that is measured.
    """
    read, plain = reading(binding, base, presented)
    found = Diagnosis(signed=True, plain=tuple(plain))
    for signature in read.scheme.signatures:
        judged = _judged(read, signature, at_hand, work)
        found = _both(found, judged)
    return found


def _both(first: Diagnosis, second: Diagnosis) -> Diagnosis:
    """Of a request with two signatures: both must be right."""
    crossed = [(*a, *b) for a in first.explanations or [()] for b in second.explanations or [()]]
    return Diagnosis(
        first.signed and second.signed,
        (*first.plain, *second.plain),
        tuple(each for each in crossed if each),
        first.hint or second.hint,
        first.complete and second.complete,
    )


def _judged(read: Reading, signature: Signature, at_hand: AtHand, work: int) -> Diagnosis:
    presented = value_of(read.presented.headers, signature.header)
    if presented is None or not presented.strip():
        missing = Deviation("header", "header.missing", f"{signature.header}, which carries the signature, is missing")
        return Diagnosis(signed=False, plain=(missing,))
    search = Search(read, signature, Seal.of(presented.strip(), signature, at_hand.keys), work)
    found = search.run(at_hand)
    if found == [()]:
        return Diagnosis(signed=True)
    if found:
        return Diagnosis(signed=False, explanations=tuple(found))
    return Diagnosis(signed=False, hint=search.seal.hint(signature), complete=search.left > 0)


@dataclass(frozen=True, slots=True)
class Mark:
    """One way in which the presented text can be a signature: its raw value, or the hash that an RSA key gives back.

    `beside` are the deviations that lie in its form alone.
    """

    raw: bytes = field(repr=False)
    digest: str
    rsa: bool
    beside: Explanation


@dataclass(frozen=True, slots=True)
class Seal:
    """The presented signature, taken apart once."""

    marks: tuple[Mark, ...]
    readable: bool

    @classmethod
    def of(cls, presented: str, signature: Signature, keys: Mapping[str, Any]) -> "Seal":
        forms = list(written(presented, signature))
        marks = [mark for form in forms for mark in _marks(form, signature, keys)]
        return cls(tuple(marks), any(not form.name for form in forms))

    def matches(self, message: bytes, key: bytes) -> Iterator[Explanation]:
        hashed: dict[tuple[str, bool], bytes] = {}
        for mark in self.marks:
            kind = (mark.digest, mark.rsa)
            if kind not in hashed:
                hashed[kind] = _hashed(message, key, mark)
            if hashed[kind] == mark.raw:
                yield mark.beside

    def hint(self, signature: Signature) -> Deviation:
        if not self.readable:
            words = f"{signature.header} holds no signature in {signature.encoding}"
            return Deviation("encoding", "encoding.unreadable", words)
        if not self.marks:
            words = f"{signature.header} has a length that {signature.algorithm} of this route's keys does not give"
            return Deviation("algorithm", "algorithm.length", words)
        words = "no known deviation gives this signature: another key, or something signed was changed on the way"
        return Deviation("key", "key.unknown", words)


def _hashed(message: bytes, key: bytes, mark: Mark) -> bytes:
    if mark.rsa:
        return hashlib.new(mark.digest, message, usedforsecurity=False).digest()
    return hmac.digest(key, message, mark.digest)


def _marks(form: Written, signature: Signature, keys: Mapping[str, Any]) -> Iterator[Mark]:
    beside: Explanation = ()
    if form.name:
        also = tuple(f"encoding.{name}" for name in form.also)
        beside = (Deviation("encoding", f"encoding.{form.name}", f"the signature is written in {form.words}", also),)
    digest = _HMACS.get(len(form.raw))
    if digest:
        wrong = DIGESTS.get(signature.algorithm) != digest
        yield Mark(form.raw, digest, False, (*beside, *(_algorithm(f"hmac-{digest}") if wrong else ())))
    for words, key in keys.items():
        held = recovered(key, form.raw) if len(form.raw) == (key.key_size + 7) // 8 else None
        if held:
            yield Mark(held[1], held[0], True, (*beside, *_of_rsa(held[0], words, signature)))


def _of_rsa(digest: str, words: str, signature: Signature) -> Iterator[Deviation]:
    if signature.algorithm != f"rsa-{digest}":
        yield from _algorithm(f"rsa-{digest}")
    elif words != signature.key:
        yield Deviation("key", "key.other", f"the private key is another: {words}")


def _algorithm(name: str) -> Explanation:
    return (Deviation("algorithm", f"algorithm.{name}", f"the algorithm is {name}"),)


@dataclass(frozen=True, slots=True)
class Trial:
    """A guess worked out: what it changes among the values that the templates name."""

    guess: Guess
    signature: Signature
    leaves: Mapping[str, bytes] = field(repr=False)

    @property
    def deviation(self) -> Deviation:
        return self.guess.deviation


class Search:
    """From no deviation to two. `left`: the work that may still be done."""

    def __init__(self, read: Reading, signature: Signature, seal: Seal, work: int) -> None:
        self.seal = seal
        self.left = max(work, 20_000)
        self._thorough = work > 0
        self._read, self._signature = read, signature
        self._names = signature.names
        self._base = self._leaves(Guess(Deviation("header", "", "")), signature)

    def run(self, at_hand: AtHand) -> list[Explanation]:
        """The smallest explanations; one that is empty when nothing differs."""
        found = list(self._seals(self._base, self._signature))
        if found or not self.seal.marks:
            return _smallest(found)
        common = self._distinct(guesses(self._read, self._signature, at_hand))
        found = list(self._alone(common))
        if not found and self._thorough:
            rare = self._distinct(rare_guesses(self._read, self._signature))
            found = list(self._alone(rare)) or list(self._paired(combinations(common, 2)))
            found = found or list(self._paired((one, other) for one in rare if not one.guess.lone for other in common))
        return _smallest(found)

    def _distinct(self, tried: Iterable[Guess]) -> list[Trial]:
        """Guesses of one part that come to the same bytes are one, and what is right is none."""
        known: dict[Any, Trial] = {}
        right = self._made(self._base, self._signature)
        for guess in tried:
            trial = self._trial(guess)
            made = self._made({**self._base, **trial.leaves}, trial.signature)
            if made != right:
                name = (guess.deviation.part, *made)
                known[name] = _merged(known[name], trial) if name in known else trial
        return list(known.values())

    def _trial(self, guess: Guess) -> Trial:
        signature = guess.reseal(self._signature) if guess.reseal else self._signature
        leaves = self._leaves(guess, signature)
        changed = {name: value for name, value in leaves.items() if self._base.get(name) != value}
        return Trial(guess, signature, changed)

    def _leaves(self, guess: Guess, signature: Signature) -> dict[str, bytes]:
        values = Values({**self._read.given, **guess.given}, {**self._read.lazy, **guess.lazy})
        names = self._names if signature is self._signature else signature.names
        return {name: values[name] for name in (*names, "zone")}  # which a time that is written in place reads

    def _made(self, leaves: Mapping[str, bytes], signature: Signature) -> tuple[bytes, bytes]:
        message = signature.string.render(leaves)
        self.left -= 1 + len(message) // 1024
        return message, self._key(leaves, signature)

    def _key(self, leaves: Mapping[str, bytes], signature: Signature) -> bytes:
        """Where an RSA key signs, an HMAC could have been made with the secret."""
        if isinstance(signature.key, Template):
            return signature.key.render(leaves)
        return self._read.given.get("client_secret", b"")

    def _seals(self, leaves: Mapping[str, bytes], signature: Signature) -> Iterator[Explanation]:
        yield from self.seal.matches(*self._made(leaves, signature))

    def _alone(self, trials: Iterable[Trial]) -> Iterator[Explanation]:
        return ((each.deviation, *beside) for each in trials for beside in self._tried(each))

    def _tried(self, trial: Trial) -> Iterator[Explanation]:
        for beside in self._seals({**self._base, **trial.leaves}, trial.signature):
            yield from _beside(beside, trial.signature, self._signature)

    def _paired(self, pairs: Iterable[tuple[Trial, Trial]]) -> Iterator[Explanation]:
        for one, other in pairs:
            if self.left <= 0:
                return
            if one.deviation.part != other.deviation.part:
                yield from ((one.deviation, other.deviation, *beside) for beside in self._pair(one, other))

    def _pair(self, one: Trial, other: Trial) -> Iterator[Explanation]:
        if not (one.guess.reseal or other.guess.reseal) and one.leaves.keys().isdisjoint(other.leaves):
            yield from self._seals({**self._base, **one.leaves, **other.leaves}, self._signature)
        elif one.guess.given.keys().isdisjoint(other.guess.given):
            yield from self._tried(self._trial(_joint(one.guess, other.guess)))


def _beside(beside: Explanation, tried: Signature, own: Signature) -> Iterator[Explanation]:
    """A guess that is about the algorithm holds for that algorithm alone, and says it already."""
    if tried.algorithm == own.algorithm:
        yield beside
    elif any(each.name == f"algorithm.{tried.algorithm}" for each in beside):
        yield tuple(each for each in beside if each.name != f"algorithm.{tried.algorithm}")


def _joint(one: Guess, other: Guess) -> Guess:
    reseals = [guess.reseal for guess in (one, other) if guess.reseal]
    given, lazy = {**one.given, **other.given}, {**one.lazy, **other.lazy}
    return Guess(one.deviation, given, lazy, _in_turn(reseals))


def _in_turn(reseals: Sequence[Reseal]) -> Reseal:
    return lambda signature: reduce(lambda made, reseal: reseal(made), reseals, signature)


def _merged(first: Trial, second: Trial) -> Trial:
    """The first by name."""
    name, told = second.deviation.name, first.deviation
    also = told.also if name in (told.name, *told.also) else (*told.also, name)
    return replace(first, guess=replace(first.guess, deviation=replace(told, also=also)))


def _smallest(found: Sequence[Explanation]) -> list[Explanation]:
    size = min(map(len, found), default=0)
    return list(dict.fromkeys(each for each in found if len(each) == size))
