"""Models: a graph, its parameters and its tokenizer, from a folder, the Hugging Face hub, or memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer
from torch import Tensor

from scrub.graph.node import Node
from scrub.models.checkpoints import Checkpoint, open_checkpoint, write_checkpoint
from scrub.models.checkpoints.checks import parameter_shapes
from scrub.models.checkpoints.tokenizer import added_in_front, fitting_tokenizer, read_tokenizer, tokenizer_file
from scrub.models.families import ModelConfig, architectures, family_of, known_token
from scrub.models.memory import open_object
from scrub.models.origin import Origin, may_name
from scrub.models.params import Stored, as_arrays, computable, moved, of_arrays
from scrub.models.place import ModelPlace, find_model
from scrub.models.values import ids_of, text_of, tokens_of, top, values
from scrub.paths.hashes import hash_weights
from scrub.paths.locate import below
from scrub.paths.roles import Roles, check_there
from scrub.paths.splits import attention_heads
from scrub.plan.leaves import bind_model, leaves_of
from scrub.plan.plan import Plan, compile_plan
from scrub.text.begin import Bos, wanted_bos
from scrub.text.encoding import without_row
from scrub.text.errors import ScrubError, tell
from scrub.text.fields import COUNT, check_arguments
from scrub.text.files import make_folder, one_line
from scrub.text.wording import at_commit, few, short, with_digest

Spec: TypeAlias = Any  # str | Path | Model, a transformers model, a HookedTransformer, or (config, state dict)

_KNOWN = "weights_hash", "plan"  # which roles don't change


@dataclass(frozen=True, eq=False)
class Model:
    """A model that can be run and scrubbed. It never changes: :meth:`to` gives another one."""

    name: str
    config: ModelConfig
    graph: Node  # the logits [batch, position, vocab], labelled 'out'
    params: Mapping[str, Tensor]  # by the names of the graph's param nodes
    tokenizer: Tokenizer | None = None  # None where the data are token ids
    folder: Path | None = None  # where it was loaded from, which may be one file
    origin: Origin = field(default_factory=Origin)
    given_roles: Roles | None = None  # instead of those that its config says

    def __repr__(self) -> str:
        some = next(iter(self.params.values()))
        size = sum(value.numel() for value in self.params.values())
        roles = " ".join(f"{role}={','.join(f'{at}.{h}' for at, h in heads)}" for role, heads in self.roles.items())
        dtype = str(some.dtype).removeprefix("torch.")
        parts = [f"{size:,} parameters", f"n_ctx {self.n_ctx}", f"vocabulary {self.vocab_size:,}", roles]
        return f"<Model {self.name}: {', '.join(part for part in parts if part)}; {dtype} on {some.device}>"

    @property
    def called(self) -> str:
        """The name; of a model from a hub with the commit, and the first digits of the hash of its weights."""
        commit = self.origin.commit
        return with_digest(at_commit(self.name, commit), self.weights_hash) if commit else self.name

    @property
    def about(self) -> dict[str, str]:
        """What JSON says of the model: its name; of one from a hub the commit and the hash of its weights too."""
        commit = self.origin.commit
        return {"model": self.name, **({"model_commit": commit, "weights": self.weights_hash} if commit else {})}

    @property
    def data(self) -> str | None:
        """The data that its config names, if it may: see :func:`scrub.models.origin.may_name`."""
        said = self.config.data
        return said if said is not None and may_name(said, self.origin) else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What is unusual about where it is from, is left out of it, or is in its tokenizer alone; data not taken."""
        said, notes = self.config.data, [*self.origin.notes, *self._rowless]
        if said is not None and self.data is None:
            wrong = "which are no data set on the hub: they aren't taken"
            notes.append(f"{self.name} suggests the data {one_line(said)[:100]!r}, {wrong}")
        return tuple(notes)

    @property
    def _rowless(self) -> list[str]:
        """Say which tokens of its tokenizer it has no row for."""
        names = [short(name) for name in without_row(self.tokenizer, self.vocab_size)]
        rows = f"no row of the model's embedding, whose ids are 0 to {self.vocab_size - 1}"
        return [f"the tokenizer has {few(names)}, with {rows}: a text that holds such a token is refused"] * bool(names)

    @property
    def n_ctx(self) -> int:
        """The largest number of positions."""
        return self.config.n_ctx

    @property
    def vocab_size(self) -> int:
        """The number of tokens."""
        return self.config.vocab_size

    @property
    def classes(self) -> int | None:
        """The number of classes that its outputs are; None if they are the tokens."""
        return getattr(self.config, "n_classes", None)

    @property
    def is_encoder(self) -> bool:
        """Whether its queries read later positions too."""
        return getattr(self.config, "causal", True) is False

    @property
    def masked_token(self) -> int | None:
        """The token whose keys no query reads, in an encoder that masks pads; None in all others."""
        return getattr(self.config, "masked", None)

    @property
    def bos_token_id(self) -> int | None:
        """The begin token: what the tokenizer puts in front by itself, else what the config says; None without one."""
        return self.config.bos_token_id if self._added_in_front is None else self._added_in_front

    @property
    def end_token_id(self) -> int | None:
        """The token between documents: what the config calls so, else the begin token, as in GPT-2's family.

        The config's own before one that a tokenizer adds: a layout leaves the end token out where the two are one.
        """
        said = (self.config.model_extra or {}).get("eos_token_id")
        if isinstance(said, int) and not isinstance(said, bool) and known_token(said, self.vocab_size) is not None:
            return said
        return self.bos_token_id if self.config.bos_token_id is None else self.config.bos_token_id

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        """The tokens that end what the model writes: those of its vocabulary that its config calls end tokens, if any.

        A layout of GPT-2's family leaves the end token out where it is the begin token.
        """
        extra = self.config.model_extra or {}
        usual = self.config.bos_token_id if family_of(self.config) == "gpt2" else None
        said = extra.get("stop_token_ids", extra.get("eos_token_id", usual))
        each = [end for end in (said if isinstance(said, list) else [said]) if type(end) is int]
        return tuple(end for end in dict.fromkeys(each) if known_token(end, self.vocab_size) is not None)

    @cached_property
    def _added_in_front(self) -> int | None:
        return added_in_front(self.tokenizer)

    @check_arguments
    def begins(self, bos: Bos, typed: bool = False) -> bool:
        """Tell whether a sequence, or a prompt that is `typed`, begins with the begin token.

        As `bos` says, if it is a yes or a no. Otherwise as the tokenizer does by itself, if it puts one there; else
        sequences do where there is one, and prompts if the model's own library puts it there too. Raises ScrubError if
        there is none to put there, or for a `bos` that is none of :data:`scrub.text.begin.Bos`.
        """
        wanted = wanted_bos(bos)
        if wanted and self.bos_token_id is None:
            raise ScrubError(f"{self.name} has no begin token: its config says no bos_token_id of its vocabulary")
        own = self._added_in_front is not None or self.config.bos_before_prompts or not typed
        return self.bos_token_id is not None and (own if wanted is None else wanted)

    @property
    def roles(self) -> dict[str, tuple[tuple[int, int], ...]]:
        """The (layer, head) pairs of every role: those that were given, else its config's."""
        own = self.config.roles if self.given_roles is None else self.given_roles
        return {role: tuple(heads) for role, heads in own.items()}

    def with_roles(self, roles: Roles | None) -> Model:
        """Give the same model with other roles, or with its config's own: `model.with_roles({"ind": [(1, 3)]})`.

        Raises ScrubError for a head that it doesn't have.
        """
        if roles == self.given_roles:
            return self
        check_there("what is given", roles or {}, attention_heads(self.graph))
        made = replace(self, given_roles=roles)
        made.__dict__.update({name: self.__dict__[name] for name in _KNOWN if name in self.__dict__})
        return made

    @property
    def dtype(self) -> torch.dtype:
        """The type that it computes in."""
        return next(iter(self.params.values())).dtype

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return next(iter(self.params.values())).device

    @cached_property
    def weights_hash(self) -> str:
        """The hash of its parameters by name, the same in whichever precision they were loaded without loss.

        Not where loading folds something into weights (1 + w of Gemma's norms, scales of queries): that is rounded
        once more, in the type that they are loaded in, so that each type may have a hash of its own.
        """
        return hash_weights(self.params)

    @cached_property
    def plan(self) -> Plan:
        """The plan of its logits at all positions."""
        return compile_plan({"logits": self.graph}, selected=False)

    @check_arguments
    def __call__(self, tokens: Tensor | Any) -> Float[Tensor, "batch position vocab"]:
        """Compute the logits that predict the token after each position, from token ids [batch, position].

        They are a tensor, an array or lists.

        Raises ScrubError for tokens that aren't whole numbers [batch, position], are outside the vocabulary, or are
        more than n_ctx in a sequence.
        """
        ids = ids_of(tokens)
        self.check(ids)
        tokens = ids.to(self.device)
        leaves = bind_model(leaves_of(self.plan), self.params, tokens)
        return self.plan.run(self.plan.once(leaves), leaves)["logits"]

    @check_arguments
    def check(self, tokens: Tensor) -> None:
        """Raise ScrubError unless these are token ids [batch, position] that the model can read."""
        if tokens.ndim != 2 or tokens.is_floating_point() or tokens.dtype == torch.bool:
            raise ScrubError(f"tokens are {tokens.dtype} {list(tokens.shape)}: expected token ids [batch, position]")
        if tokens.shape[1] > self.n_ctx:
            raise ScrubError(f"the sequences have {tokens.shape[1]} tokens, but {self.name} reads at most {self.n_ctx}")
        self._check_known(tokens)

    def _check_known(self, tokens: Tensor) -> None:
        if tokens.numel() and (int(tokens.min()) < 0 or int(tokens.max()) >= self.vocab_size):
            raise ScrubError(
                f"a token is outside the vocabulary of {self.name}: its ids are 0 to {self.vocab_size - 1}"
            )
        self.check_read(tokens)

    def check_read(self, tokens: Tensor | np.ndarray) -> None:
        """Raise ScrubError for a sequence of which an encoder reads nothing: pads alone leave a query no key."""
        if self.masked_token is not None and tokens.ndim == 2:
            pads = (tokens == self.masked_token).all(1)
            if bool(pads.any()):
                which = int(pads.nonzero()[0][0])
                raise ScrubError(
                    f"sequence {which} is pads alone, the token {self.masked_token}, which {self.name} masks: no query "
                    "has a key there; leave it out"
                )

    @check_arguments
    def values(self, on: str | Any, path: str) -> Float[Tensor, "batch ..."]:
        """Compute the value at a path: `model.values("def f(x):", "a1.3/pattern")`; see :mod:`scrub.models.values`."""
        return values(self, on, path)

    @check_arguments
    def tokens(self, text: str, bos: Bos = None) -> Int[Tensor, "batch position"]:
        """Turn a text into token ids [1, position], behind the begin token if `bos`, or if that is usual for prompts.

        `model(model.tokens("def f"))` are its logits. Raises ScrubError for a model without a tokenizer, or too long a
        text.
        """
        return tokens_of(self, text, bos)

    @check_arguments
    def strings(self, tokens: Any) -> list[str]:
        """Decode each token of a sequence by itself: `model.strings(model.tokens("def f")[0])`.

        Raises ScrubError for what is no token of the model.
        """
        ids = ids_of(tokens).cpu()
        if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
            raise ScrubError(f"{short(tokens)} are no tokens: expected ids, which are whole numbers")
        self._check_known(ids)
        return [text_of(self, token) for token in ids.ravel().tolist()]

    @check_arguments
    def top(self, on: str | Any, count: Annotated[int, COUNT] = 10, position: int = -1) -> pd.DataFrame:
        """List the most probable next tokens at a position: `model.top("import os, sy", 5)`."""
        return top(self, on, count, position)

    @property
    def heads(self) -> dict[int, int]:
        """The number of heads of each attention layer."""
        return {layer: len(of) for layer, of in sorted(attention_heads(self.graph).items())}

    @property
    def layers(self) -> list[str]:
        """The components that write into the residual stream, in order: emb, a0, m0, a1, ..."""
        return [str(component.label) for component in below(self.graph)]

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes of its config, and the number of its parameters."""
        fields = {*type(self.config).model_fields}
        said = {name: value for name, value in self.config.model_dump(include=fields).items() if isinstance(value, int)}
        sizes = {name: value for name, value in said.items() if not isinstance(value, bool) and "token" not in name}
        return {**sizes, "parameters": sum(value.numel() for value in self.params.values())}

    @check_arguments
    def to(self, dtype: torch.dtype | None = None, device: str | torch.device | None = None) -> Model:
        """Give the same model in another floating-point type, or on another device."""
        params = moved(self.params, dtype and computable(dtype), device)
        same = all(params[name] is value for name, value in self.params.items())
        return self if same else replace(self, params=params)  # what is known of it stays known

    def __reduce__(self) -> tuple[object, ...]:
        # the graph is made again, since a deep one can't be pickled; the parameters are arrays, which processes share
        known = {"weights_hash": self.weights_hash}
        return (
            _again,
            (
                self.name,
                self.config,
                as_arrays(self.params),
                self.tokenizer,
                self.folder,
                self.origin,
                self.given_roles,
            ),
            known,
        )


@check_arguments
def load_model(
    spec: Spec,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    *,
    name: str | None = None,
    tokenizer: Any = None,
) -> Model:
    """Load a model: `load_model("attn2l")`, `load_model("gpt2", torch.float64)`, `load_model(transformers_model)`.

    `spec` is a path, the name of one in ./models or shipped with scrub, or OWNER/NAME on the hub. Its files may be of
    any layout in scrub/models/checkpoints/layouts, or it is one file, a .gguf or llama2.c's .bin. Or it is in memory:
    a Model, a model of transformers, a HookedTransformer, or (config, state dict) with the fields and tensors of such
    files, which are copied once. It computes in `dtype`, however it is stored. `name` and `tokenizer` (of tokenizers,
    or of transformers) win over what it comes with; what transformers or TransformerLens has in memory comes without
    one. What is left out of it is told as a ScrubWarning.
    Raises ScrubError, in one line, if there is none, if the hub can't be reached, or if anything is wrong with it.
    """
    said: list[str] = []
    if isinstance(spec, Model):
        model = spec.to(dtype, device)
    else:
        called, checkpoint, found, origin = _opened(spec)
        said += checkpoint.notes
        params = moved(checkpoint.params(computable(dtype)), dtype, device)
        own = _own_tokenizer(found, checkpoint) if found and tokenizer is None else None
        folder = found.folder if found else None
        model = Model(called, checkpoint.config, checkpoint.graph, params, own, folder, origin)
    if tokenizer is not None:
        model = replace(model, tokenizer=fitting_tokenizer(tokenizer, model.vocab_size))
    if tokenizer is not None or not isinstance(spec, Model):
        tell([*said, *model._rowless])
    return model if name is None else replace(model, name=name)


def _own_tokenizer(found: ModelPlace, checkpoint: Checkpoint) -> Tokenizer | None:
    if found.tokenizer is None and found.folder.is_file():
        return checkpoint.tokenizer()
    file = tokenizer_file(found.tokenizer or found.folder)
    return read_tokenizer(file, checkpoint.config.vocab_size) if file else None


def as_model(spec: Spec, dtype: torch.dtype = torch.float32) -> Model:
    """Give a model as it is, or load what :func:`load_model` takes, in `dtype`."""
    return spec if isinstance(spec, Model) else load_model(spec, dtype)


class Bare(NamedTuple):
    """A model without its parameters: its graph, the roles that its config says, its name, and how much it reads."""

    graph: Node
    roles: Roles
    name: str
    n_ctx: int


def load_graph(spec: Spec) -> Bare:
    """Load a model without its parameters: `load_graph("gpt2").roles`. See :func:`load_model`."""
    if isinstance(spec, Model):
        return Bare(spec.graph, spec.with_roles(None).roles, spec.name, spec.n_ctx)
    called, checkpoint, _, _ = _opened(spec)
    roles = {role: tuple(heads) for role, heads in checkpoint.config.roles.items()}
    return Bare(checkpoint.graph, roles, called, checkpoint.config.n_ctx)


def _opened(spec: Spec) -> tuple[str, Checkpoint, ModelPlace | None, Origin]:
    """Open all of a model but its parameters, and say where its files are, if it has some, and where they are from."""
    if not isinstance(spec, str | Path):
        called, checkpoint = open_object(spec)
        return called, checkpoint, None, Origin(notes=checkpoint.notes)
    found = find_model(spec)
    checkpoint = open_checkpoint(found.folder, found.overrides)
    notes = (*found.notes, *checkpoint.notes)
    origin = Origin(found.commit, notes, found.own and "data" in found.overrides, found.own)
    return found.name, checkpoint, found, origin


def lower(config: ModelConfig) -> Node:
    """Make the graph of a model from its config."""
    graph: Node = architectures()[family_of(config)].lower(config)
    return graph


def make_model(name: str, config: ModelConfig, params: Mapping[str, Tensor], tokenizer: Any = None) -> Model:
    """Make a model of a config of its family and its parameters: `make_model("mine", config, params)`.

    Raises ScrubError if the parameters aren't those that the config asks for, or the tokenizer has other tokens.
    """
    graph = lower(config)
    shapes, there = parameter_shapes(graph), {key: tuple(value.shape) for key, value in params.items()}
    if wrong := sorted(key for key in shapes.keys() | there.keys() if shapes.get(key) != there.get(key)):
        expected, found = (f"{list(each[wrong[0]])}" if wrong[0] in each else "nothing" for each in (shapes, there))
        raise ScrubError(f"the parameter {wrong[0]!r} of {name} is {found}: its config asks for {expected}")
    own = None if tokenizer is None else fitting_tokenizer(tokenizer, config.vocab_size)
    return Model(name, config, graph, dict(params), own)


@check_arguments
def save_model(model: Model, folder: str | Path) -> None:
    """Write a model's config.json, model.safetensors and tokenizer.json: `save_model(model, "models/mine")`.

    Loading it gives the same again.
    A GPT-2 is written as transformers does, so that `from_pretrained` reads it; others in scrub's own layout.
    The tensors are stored in the model's type, so save `model.to(torch.float16)` to halve the file.
    The folder is made if it isn't there; other files in it stay. Each file is replaced as a whole, config.json last.
    Raises ScrubError if that can't be done, or for a dtype that checkpoints don't hold.
    """
    folder = Path(folder)
    make_folder(folder)
    write_checkpoint(folder, family_of(model.config), model.config, model.params, model.tokenizer)


def _again(
    name: str,
    config: ModelConfig,
    arrays: Mapping[str, Stored],
    tokenizer: Tokenizer | None,
    folder: Path | None,
    origin: Origin,
    given_roles: Roles | None = None,
) -> Model:
    return Model(name, config, lower(config), of_arrays(arrays), tokenizer, folder, origin, given_roles)
