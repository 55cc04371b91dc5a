"""Words that the prompts of tasks are made of."""

from __future__ import annotations


def _listed(words: str) -> tuple[str, ...]:
    return tuple(words.split())


NAMES = _listed(
    """
Adam Alan Alex Alice Amy Andrew Anna Anne Ben Brian Carl Charles Chris Claire Dan Daniel David Diana Emily Emma Eric
Frank George Grace Helen Henry Jack James Jane Jason Jean Joe John Julia Karen Kate Kevin Laura Lee Linda Lisa Louis
Lucy Luke Maria Mark Martin Mary Max Michael Nick Nina Oliver Paul Peter Rachel Robert Rose Ruth Sam Sarah Simon Sophie
Steve Susan Thomas Tim Tom Victor William
"""
)
PLACES = _listed("airport bakery beach bridge cinema garden harbour hotel library market museum office park")
THINGS = _listed("badge ball book box card coin cup flower hat key lamp letter map pen ring ticket")
EVENTS = _listed(
    """
alliance boycott campaign conflict crisis drought dynasty embargo exhibition expedition famine feud investigation
journey mission occupation project reform siege strike trial truce voyage war
"""
)
CODE = _listed(
    """
arg args byte bytes char child class column columns count data element entry event field fields file files group index
item items key keys label labels length line lines list method module modules name names node nodes number obj op order
param params part parts path paths result row rows size source state task test tests text token tokens type user value
values word
"""
)
VERBS = _listed("build check clean close copy find get load make merge move open parse read run save send sort")
NUMBERS = tuple(map(str, range(21)))
WEEKDAYS = _listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = _listed("January February March April May June July August September October November December")
ENDINGS = tuple(f"{year:02}" for year in range(100))
CENTURIES = tuple(map(str, range(11, 20)))
