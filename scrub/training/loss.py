"""The training loss of a model, over a dict of parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from scrub.graph.node import Node
from scrub.plan.leaves import bind_model, leaves_of
from scrub.plan.plan import compile_plan

Params = Mapping[str, Tensor]  # by the names of the checkpoint


class _LinearCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of `inputs @ weight.T`, a chunk of rows at a time, gradients computed on the way.

    The logits of a whole batch are the largest array of the model; in chunks they stay in the cache and are
    turned into their own gradient in place.
    """

    CHUNK = 600

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Float[Tensor, "row d_model"],
        weight: Float[Tensor, "vocab d_model"],
        targets: Int[Tensor, "row"],
    ) -> Float[Tensor, ""]:
        losses = inputs.new_empty(len(inputs))
        grad_inputs, grad_weight = torch.empty_like(inputs), torch.zeros_like(weight)
        for begin in range(0, len(inputs), _LinearCrossEntropy.CHUNK):
            part = slice(begin, begin + _LinearCrossEntropy.CHUNK)
            gradient = torch.softmax(inputs[part] @ weight.T, dim=1)
            wanted = targets[part, None]
            # A float32 probability below 1e-37 would be -inf; no token of a trained model comes near it.
            losses[part] = gradient.gather(1, wanted)[:, 0].clamp_min(1e-37).log().neg()
            gradient.scatter_add_(1, wanted, gradient.new_full(wanted.shape, -1.0))
            torch.mm(gradient, weight, out=grad_inputs[part])
            grad_weight.addmm_(gradient.T, inputs[part])
        ctx.save_for_backward(grad_inputs, grad_weight)
        ctx.count = len(inputs)
        return losses.mean()

    @staticmethod
    def backward(ctx: Any, grad: Float[Tensor, ""]) -> tuple[Tensor, Tensor, None]:
        grad_inputs, grad_weight = ctx.saved_tensors
        scale = grad / ctx.count
        return grad_inputs * scale, grad_weight * scale, None


class Objective:
    """The training loss of a model's graph, through the same plan that studies run."""

    def __init__(self, graph: Node) -> None:
        """`graph` ends in an unembedding without a bias, which is computed apart."""
        assert graph.op == "unembed"
        states, self.table = graph.inputs
        self.plan = compile_plan({"states": states}, selected=False)
        self.leaves = leaves_of(self.plan)

    def states(self, params: Params, inputs: Int[Tensor, "batch token"]) -> Float[Tensor, "batch token d_model"]:
        """The LayerNormed residual stream before the unembedding."""
        leaves = bind_model(self.leaves, params, inputs)
        return self.plan.run(self.plan.once(leaves), leaves)["states"]

    def loss(self, params: Params, tokens: Int[Tensor, "batch token"]) -> Float[Tensor, ""]:
        """Mean loss, in nats a token, of predicting every token of sequences but the first (the begin token)."""
        states, table = self.states(params, tokens[:, :-1]), params[str(self.table.arguments["name"])]
        return _LinearCrossEntropy.apply(states.flatten(0, 1), table, tokens[:, 1:].flatten())  # type: ignore[no-any-return, no-untyped-call]

    def token_losses(self, params: Params, tokens: Int[Tensor, "batch token"]) -> Float[Tensor, "batch position"]:
        """Loss of each prediction, in nats; no gradients."""
        with torch.no_grad():
            logits = self.states(params, tokens[:, :-1]) @ params[str(self.table.arguments["name"])].T
            losses = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
            return losses.view(len(tokens), -1)
