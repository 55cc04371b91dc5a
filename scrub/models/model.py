"""Models: a graph, its parameters and its tokenizer, from a folder or the Hugging Face hub."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor

from scrub.graph.node import Node
from scrub.models.checkpoints import open_checkpoint, write_checkpoint
from scrub.models.checkpoints.checks import parameter_shapes
from scrub.models.checkpoints.tokenizer import read_tokenizer, tokenizer_file
from scrub.models.families import ModelConfig, architectures
from scrub.models.hub import find_model
from scrub.paths.hashes import hash_weights
from scrub.plan.leaves import bind_model, leaves_of
from scrub.plan.plan import Plan, compile_plan
from scrub.text.errors import ScrubError
from scrub.text.files import first_sentence, make_folder

_COMPUTABLE = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@dataclass(frozen=True, eq=False)
class Model:
    """A model that can be run and scrubbed. It never changes: :meth:`to` gives another one."""

    name: str
    config: ModelConfig
    graph: Node  # the logits [batch, position, vocab], labelled 'out'
    params: Mapping[str, Tensor]  # by the names of the graph's param nodes
    tokenizer: Tokenizer | None = None  # None where the data are token ids
    folder: Path | None = None  # where it was loaded from

    def __repr__(self) -> str:
        some = next(iter(self.params.values()))
        size = sum(value.numel() for value in self.params.values())
        roles = " ".join(f"{role}={','.join(f'{at}.{h}' for at, h in heads)}" for role, heads in self.roles.items())
        dtype = str(some.dtype).removeprefix("torch.")
        parts = [f"{size:,} parameters", f"n_ctx {self.n_ctx}", f"vocabulary {self.vocab_size:,}", roles]
        return f"<Model {self.name}: {', '.join(part for part in parts if part)}; {dtype} on {some.device}>"

    @property
    def n_ctx(self) -> int:
        """The largest number of positions."""
        return self.config.n_ctx

    @property
    def vocab_size(self) -> int:
        """The number of tokens."""
        return self.config.vocab_size

    @property
    def bos_token_id(self) -> int:
        """The token in front of every sequence."""
        return self.config.bos_token_id

    @property
    def roles(self) -> dict[str, tuple[tuple[int, int], ...]]:
        """The (layer, head) pairs of every role."""
        return {role: tuple(heads) for role, heads in self.config.roles.items()}

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
        """The hash of its parameters by name, the same in whichever precision they were loaded without loss."""
        return hash_weights(self.params)

    @cached_property
    def plan(self) -> Plan:
        """The plan of its logits at all positions."""
        return compile_plan({"logits": self.graph}, selected=False)

    def __call__(self, tokens: Tensor) -> Float[Tensor, "batch position vocab"]:
        """The logits that predict the token after each position, from token ids [batch, position].

        Raises ScrubError for tokens that aren't whole numbers [batch, position], are outside the vocabulary, or are
        more than n_ctx in a sequence.
        """
        if tokens.ndim != 2 or tokens.is_floating_point() or tokens.dtype == torch.bool:
            raise ScrubError(f"tokens are {tokens.dtype} {list(tokens.shape)}: expected token ids [batch, position]")
        if tokens.shape[1] > self.n_ctx:
            raise ScrubError(f"the sequences have {tokens.shape[1]} tokens, but {self.name} reads at most {self.n_ctx}")
        if tokens.numel() and (int(tokens.min()) < 0 or int(tokens.max()) >= self.vocab_size):
            raise ScrubError(
                f"a token is outside the vocabulary of {self.name}: its ids are 0 to {self.vocab_size - 1}"
            )
        tokens = tokens.to(self.device)
        leaves = bind_model(leaves_of(self.plan), self.params, tokens)
        return self.plan.run(self.plan.once(leaves), leaves)["logits"]

    def to(self, dtype: torch.dtype | None = None, device: str | torch.device | None = None) -> Model:
        """The same model in another floating-point type, or on another device."""
        if dtype in {None, self.dtype} and (device is None or torch.device(device) == self.device):
            return self  # what is known of it stays known
        return replace(self, params=_moved(self.params, dtype and _computable(dtype), device))

    def __reduce__(self) -> tuple[object, ...]:
        # the graph is made again, since a deep one can't be pickled; the parameters are arrays, which processes share
        arrays = {name: _array(value) for name, value in self.params.items()}
        known = {"weights_hash": self.weights_hash}
        return _from_arrays, (self.name, self.config, arrays, self.tokenizer, self.folder), known


def load_model(
    spec: str | Path | Model, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> Model:
    """Load a model: `spec` is a path, the name of one in ./models or shipped with scrub, or OWNER/NAME on the hub.

    Its files may be of any layout in scrub/models/checkpoints/layouts. It computes in `dtype`, however it is stored.
    Raises ScrubError, in one line, if there is none, if the hub can't be reached, or for anything that is wrong with
    the model's files. One that is in memory is given in that dtype, on that device.
    """
    if isinstance(spec, Model):
        return spec.to(dtype, device)
    found = find_model(spec)
    name, folder = found.name, found.folder
    checkpoint = open_checkpoint(folder, found.overrides)
    params = checkpoint.params(_computable(dtype))
    vocabulary = tokenizer_file(found.tokenizer or folder)
    tokenizer = read_tokenizer(vocabulary, checkpoint.config.vocab_size) if vocabulary else None
    return Model(name, checkpoint.config, checkpoint.graph, _moved(params, dtype, device), tokenizer, folder)


def load_graph(spec: str | Path | Model) -> tuple[Node, dict[str, tuple[tuple[int, int], ...]]]:
    """The graph and the roles of a model, without its parameters. See :func:`load_model`."""
    if isinstance(spec, Model):
        return spec.graph, spec.roles
    found = find_model(spec)
    config = open_checkpoint(found.folder, found.overrides).config
    return lower(config), {role: tuple(heads) for role, heads in config.roles.items()}


def lower(config: ModelConfig) -> Node:
    """The graph of a model from its config."""
    graph: Node = architectures()[_family(config)].lower(config)
    return graph


def make_model(
    name: str, config: ModelConfig, params: Mapping[str, Tensor], tokenizer: Tokenizer | None = None
) -> Model:
    """A model from a config of its family and its parameters, such as training makes.

    Raises ScrubError if the parameters aren't those that the config asks for.
    """
    graph = lower(config)
    shapes, there = parameter_shapes(graph), {key: tuple(value.shape) for key, value in params.items()}
    if wrong := sorted(key for key in shapes.keys() | there.keys() if shapes.get(key) != there.get(key)):
        expected, found = (f"{list(each[wrong[0]])}" if wrong[0] in each else "nothing" for each in (shapes, there))
        raise ScrubError(f"the parameter {wrong[0]!r} of {name} is {found}: its config asks for {expected}")
    return Model(name, config, graph, dict(params), tokenizer)


def save_model(model: Model, folder: str | Path) -> None:
    """Write a model's config.json, model.safetensors and tokenizer.json, so that loading it gives the same again.

    A GPT-2 is written as transformers does, so that `from_pretrained` reads it; other families in scrub's own layout.
    The tensors are stored in the model's type, so save `model.to(torch.float16)` to halve the file.
    The folder is made if it isn't there; other files in it stay. Each file is replaced as a whole, config.json last.
    Raises ScrubError if that can't be done, or for a dtype that checkpoints don't hold.
    """
    folder = Path(folder)
    make_folder(folder)
    write_checkpoint(folder, _family(model.config), model.config, model.params, model.tokenizer)


def _family(config: ModelConfig) -> str:
    return next(name for name, family in architectures().items() if isinstance(config, family.Config))


def _array(tensor: Tensor) -> tuple[np.ndarray, torch.dtype]:
    """A parameter as an array; numpy has no bfloat16, but its bits."""
    here = tensor.detach().cpu().contiguous()
    return (here.view(torch.int16) if here.dtype == torch.bfloat16 else here).numpy(), here.dtype


def _from_arrays(
    name: str,
    config: ModelConfig,
    arrays: Mapping[str, tuple[np.ndarray, torch.dtype]],
    tokenizer: Tokenizer | None,
    folder: Path | None,
) -> Model:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nor does anybody write to it
        params = {each: torch.from_numpy(array).view(dtype) for each, (array, dtype) in arrays.items()}
    return Model(name, config, lower(config), params, tokenizer, folder)


def _computable(dtype: torch.dtype) -> torch.dtype:
    if dtype not in _COMPUTABLE:
        known = ", ".join(str(each).removeprefix("torch.") for each in _COMPUTABLE)
        raise ScrubError(f"models don't run in {str(dtype).removeprefix('torch.')}: take one of {known}")
    return dtype


def _moved(
    params: Mapping[str, Tensor], dtype: torch.dtype | None, device: str | torch.device | None
) -> dict[str, Tensor]:
    try:
        return {name: value.to(device, dtype) for name, value in params.items()}
    except (RuntimeError, AssertionError) as error:  # torch's ways of saying that there is no such device, or no room
        why = first_sentence(error)
        raise ScrubError(f"the model can't be put on the device {str(device)!r} ({why}): try 'cpu'") from error
