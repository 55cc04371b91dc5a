"""A model's twin in transformers: its logits, attention patterns and residual stream.

Nothing here knows a family. The layers are the list of modules that is as long as the model has layers; what enters
them, and leaves the last, is the residual stream, in front of whatever norm there is. Patterns and logits are what
transformers itself gives.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from scrub.models.checkpoints import CONFIG
from scrub.models.checkpoints.reading import read_fields
from scrub.models.model import Model
from scrub.text.errors import ScrubError
from scrub.text.fields import theirs as their_code
from scrub.text.files import shown
from scrub.text.wording import few, short

INSTALL = 'pip install "causal-scrub[parity]"'
EAGER = "eager"  # the attention that gives its patterns
_FIRST = 5  # the first version of transformers whose models are read here


@dataclass(frozen=True)
class TwinRun:
    """Run of a twin: patterns by layer, streams in front of each and behind the last, before the final norm.

    `computes_in` is the narrowest type of floating-point numbers in it, which may be narrower than the twin's own.
    """

    computes_in: torch.dtype
    logits: Float[Tensor, "batch position vocab"]
    patterns: tuple[Float[Tensor, "batch head query key"], ...]
    streams: tuple[Float[Tensor, "batch position d_model"], ...]


@dataclass(frozen=True)
class Twin:
    """A model of transformers, whose layers are known. `with twin.ready(): twin.run(tokens)`."""

    theirs: Any
    layers: nn.ModuleList

    @classmethod
    def of(cls, theirs: Any, count: int) -> Twin:
        """Find the layers of a model, by their number. Raises ScrubError if there is no list of so many."""
        lists = (each for each in theirs.modules() if isinstance(each, nn.ModuleList))
        found = next((each for each in lists if len(each) == count), None)
        if found is None:
            raise ScrubError(
                f"transformers' {type(theirs).__name__} has no list of {count} layers, so what enters them can't be "
                "read: compare another model"
            )
        return cls(theirs, found)

    @property
    def name(self) -> str:
        """What its class is called."""
        return type(self.theirs).__name__

    def exact(self) -> Twin:
        """Copy it in float32, with the weights that it has."""
        return Twin.of(copy.deepcopy(self.theirs).float(), len(self.layers))

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Let nothing drop out, and attention give its patterns; behind it, all is as it was."""
        modes = {module: module.training for module in self.theirs.modules()}
        before = self.theirs.config._attn_implementation
        try:
            self.theirs.eval()
            if before != EAGER:
                self.theirs.set_attn_implementation(EAGER)
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
            if before != EAGER:
                self.theirs.set_attn_implementation(before)

    @torch.no_grad()
    def run(self, tokens: Int[Tensor, "batch position"]) -> TwinRun:
        """Run it, as it is :meth:`ready`. Raises ScrubError if it doesn't give logits, patterns and streams."""
        streams: list[Tensor] = []
        hooks = [layer.register_forward_pre_hook(_entering(streams), with_kwargs=True) for layer in self.layers]
        hooks.append(self.layers[-1].register_forward_hook(_leaving(streams)))
        asked = {"attention_mask": torch.ones_like(tokens), "use_cache": False, "output_attentions": True}
        failed = their_code(f"transformers can't run {self.name}", "compare another model")
        try:
            with failed, _quiet(), _Narrowest(self.theirs.dtype) as seen:
                found = self.theirs(tokens, **asked)
        finally:
            for hook in hooks:
                hook.remove()
        logits, patterns = getattr(found, "logits", None), getattr(found, "attentions", None) or ()
        if not isinstance(logits, Tensor) or logits.ndim != 3:
            raise ScrubError(f"transformers' {self.name} predicts no tokens: give the model with its language head")
        count = len(self.layers)
        if (len(streams), len(patterns)) != (count + 1, count) or any(each is None for each in patterns):
            raise ScrubError(
                f"transformers' {self.name} gives {len(patterns)} attention patterns and {len(streams)} residual "
                f"streams of its {count} layers: compare another model"
            )
        return TwinRun(seen.dtype, logits, tuple(patterns), tuple(streams))


def _entering(streams: list[Tensor]) -> Callable[..., None]:
    def keep(_layer: nn.Module, given: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        streams.append((given[0] if given else named["hidden_states"]).clone())  # a layer may change it where it is

    return keep


def _leaving(streams: list[Tensor]) -> Callable[..., None]:
    def keep(_layer: nn.Module, _given: tuple[Any, ...], found: Any) -> None:
        streams.append((found[0] if isinstance(found, tuple) else found).clone())

    return keep


class _Narrowest(TorchFunctionMode):
    """Watches for the narrowest type of floating-point numbers that anything gives, beginning with a model's own.

    Norms, rotary tables and softmax of transformers are float32 in many families, in float64 too.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        found = func(*args, **(kwargs or {}))
        if isinstance(found, Tensor) and found.is_floating_point() and found.itemsize < self.dtype.itemsize:
            self.dtype = found.dtype
        return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Let transformers tell errors alone, and show no bars; behind it, it is as talkative as it was."""
    logging = library().utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def library() -> Any:
    """Import transformers. Raises ScrubError, which says how it is installed, if it is missing or too old."""
    try:
        found = import_module("transformers")
    except ImportError as error:
        raise ScrubError(f"parity compares with transformers, which isn't here: {INSTALL}") from error
    if int(found.__version__.partition(".")[0]) < _FIRST:
        raise ScrubError(
            f"parity compares with transformers from {_FIRST} on, and {found.__version__} is here: {INSTALL}"
        )
    return found


def read_twin(model: Model) -> Any:
    """Let transformers read the folder that a model is from, and nothing else, in its dtype and on its device.

    Raises ScrubError for a model that transformers can't read, or of which it finds only a part.
    """
    transformers, folder = library(), _folder(model)
    how = {"attn_implementation": EAGER, "local_files_only": True, "trust_remote_code": False}
    with _quiet(), their_code(f"transformers can't read {shown(folder)}", "compare another model"):
        theirs, told = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=model.dtype, output_loading_info=True, **how
        )
    if lost := sorted(map(str, [*told["missing_keys"], *told["mismatched_keys"]])):
        raise ScrubError(
            f"transformers finds no weights in {shown(folder)} for {few(lost)}, and would make them up: save them too"
        )
    return theirs.to(model.device)


def _folder(model: Model) -> Path:
    """Find the folder that transformers can read. Raises ScrubError if it knows no such model."""
    folder = model.folder
    if folder is None:
        raise ScrubError(
            f"{model.name} is from no folder that transformers could read: give one, a hub id, or the model of "
            "transformers itself"
        )
    if folder.is_file():
        raise ScrubError(
            f"{shown(folder)} is a single file, which transformers doesn't read as it is: compare the folder that it "
            "was made from"
        )
    kind = read_fields(folder / CONFIG).get("model_type") if (folder / CONFIG).is_file() else None
    known = import_module("transformers.models.auto.modeling_auto").MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if not isinstance(kind, str) or kind not in known:
        why = "its config.json has no model_type" if kind is None else f"it knows no model_type {short(kind)}"
        raise ScrubError(f"{model.name} has no twin in transformers, as {why}: compare a model in its layout")
    return folder
