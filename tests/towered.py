"""The checker of annotated types and shapes: an int passes where a float is asked for, as for type checkers."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
