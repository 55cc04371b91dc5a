"""Lists of words that prompts are made of."""

from __future__ import annotations

import string
from collections.abc import Mapping

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
