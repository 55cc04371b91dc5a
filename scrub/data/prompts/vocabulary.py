"""Words that prompts are made of: letters, words or digits that are one token each, or any tokens."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from tokenizers import Tokenizer

from scrub.data.settings import RANDOM, check_kind
from scrub.models.model import Model
from scrub.text.encoding import encoded
from scrub.text.errors import ScrubError

_ENGLISH = """
access action add address air all answer area arm art ask author back ball band bank bar base bed bell best bird black
block blood blue board boat body bone book bottom box boy bridge brother build business buy call camp captain car card
care case cat cause cell center chain chair change chapter character child church circle city class clean clear clock
close cloud coat code coffee cold college color command community company contact control corner cost country county
course court cover cross cup current dance danger dark data date daughter day dead deal death deep degree demand design
desk detail device dinner direct doctor dog door double dream dress drink drive earth east edge effect empty end energy
engine entry event example eye face fact fair fall family farm father feature field figure file fill film final find
fire first fish fix flag flat floor flow flower food foot force form format frame free friend front full function future
game garden gas general girl give glass global goal gold good great green ground group grow guide hair half hall hand
hard hat head health heart heat heavy help high hill history hold home hope horse hospital hot hotel hour house human
ice idea image index input iron island issue item jacket job join joint judge jump keep key kind king kitchen knife lady
lake land language large last law lead leaf left leg length letter level library life light like limit line link list
live local location lock logic long look love low lunch machine main make man map mark market mass master match matter
meal mean meat media member memory message metal method middle milk mind minute mirror mix mode model moment money month
moon morning mother mountain mouse mouth move movie music name nature neck network new night noise normal north nose
note number object ocean office oil old open option orange order output owner page paint pair paper parent park part
party pass past path pattern peace pen people phone picture piece plain plan plane plant plate play player point police
pool poor port position post power present press price print problem process product program project public pull purple
push queen question quick quiet race rain random range rate read real record red region report rest result return rice
rich ring rise river road rock role roll roof room root rose round row rule run safe salt sample sand save scale scene
school science score screen sea search season seat second section seed sense series service set shape share sharp sheet
ship shirt shoe shop short show side sign silver simple single sister size skill skin sky sleep slice small smoke snow
social soft son song sort sound source south space speed spirit sport spring square staff stage star start state station
status step stick stock stone stop storage store storm story street string strong style sugar summer sun support surface
symbol system table tail talk target task tax teacher team tell term test text thing thread ticket time tool top total
touch tower town track trade train travel tree trip truck true turn type uncle union unit update user valley value
version video view village visit voice wait walk wall war watch water wave way weather week weight west wheel white wide
wife wild wind window wine winter woman wood word work world write yard year yellow young zone
"""
WORDS: Mapping[str, tuple[str, ...]] = {
    "letters": tuple(string.ascii_uppercase),
    "words": tuple(_ENGLISH.split()),
    "digits": tuple(string.digits),
}


@dataclass(frozen=True)
class Vocabulary:
    """Words that prompts of a kind are drawn from, each one token: `first` where a text begins, `later` after a blank.

    The two differ for tokenizers that take a blank for a part of the word behind it, as GPT-2's does. Random tokens
    have no `words`: the same token stands at every place, and their text is what they spell.
    """

    kind: str
    words: tuple[str, ...]
    first: Int[np.ndarray, " word"]
    later: Int[np.ndarray, " word"]

    def __len__(self) -> int:
        return len(self.later)


def vocabulary(model: Model, kind: str) -> Vocabulary:
    """List what prompts of a kind (`KINDS`) are made of for a model.

    Words are those of a list that are a single token of its own both where a text begins and after a blank. Random
    tokens are all but special ones and the begin token; they need no tokenizer.
    Raises ScrubError for a kind that there isn't, or where words are asked of a model without a tokenizer.
    """
    check_kind(kind)
    if kind == RANDOM:
        ids = _plain_tokens(model)
        return Vocabulary(kind, (), ids, ids)
    if model.tokenizer is None:
        raise ScrubError(f"{model.name} has no tokenizer, which {kind} need: take {RANDOM}")
    tokens = _single_tokens(model.tokenizer, WORDS[kind], model.vocab_size)
    pairs = np.array(list(tokens.values()), dtype=np.int64).reshape(-1, 2)
    return Vocabulary(kind, tuple(tokens), pairs[:, 0], pairs[:, 1])


def _plain_tokens(model: Model) -> Int[np.ndarray, " token"]:
    tokenizer, apart = model.tokenizer, set() if model.bos_token_id is None else {model.bos_token_id}
    if tokenizer is None:
        return np.setdiff1d(np.arange(model.vocab_size), [*apart])
    apart |= {token for token, added in tokenizer.get_added_tokens_decoder().items() if added.special}
    known = np.array([*tokenizer.get_vocab(with_added_tokens=True).values()], dtype=np.int64)
    return np.setdiff1d(known[known < model.vocab_size], [*apart])


def _single_tokens(tokenizer: Tokenizer, words: Sequence[str], vocab_size: int) -> dict[str, tuple[int, int]]:
    """Find the words that are one token, at the beginning of a text and after a blank, and these two tokens.

    A token that spells something else, such as one that stands for everything unknown, is no word's own.
    """
    found = encoded(tokenizer, [f"{word} {word}" for word in words], vocab_size)
    ids = {word: tuple(pair) for word, pair in zip(words, found, strict=True)}
    return {word: (pair[0], pair[1]) for word, pair in ids.items() if len(pair) == 2 and _spell(tokenizer, pair, word)}


def _spell(tokenizer: Tokenizer, pair: Sequence[int], word: str) -> bool:
    """Tell whether both tokens spell a word; a tokenizer may ignore case."""
    text = str(tokenizer.decode(list(pair), skip_special_tokens=False))
    return text.casefold().split() == [word.casefold()] * 2
